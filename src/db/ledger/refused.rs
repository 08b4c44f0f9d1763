//! Pages of the list that Vobiz refuses while others come.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A page that was refused, and what of it is lost.
#[derive(Debug, Clone, Copy)]
pub struct RefusedPage<'a> {
    /// `sweep`, `drain` or `day YYYY-MM-DD` with the filters of a part.
    pub list: &'a str,
    /// Its number, from 1.
    pub page: u32,
    /// Rows that no smaller page showed either.
    pub rows_lost: i32,
    /// All of that in words.
    pub words: &'a str,
    /// Its rows tell of no earlier instant, as far as that is known yet.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// Writes a refused page down.
pub async fn note(
    connection: &mut PgConnection,
    account: &AccountId,
    refused: &RefusedPage<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into vobiz.refused_page (account_id, list, page, rows_lost, words, oldest_at) values ($1, $2, $3, $4, $5, $6)
         on conflict (account_id, list, page) do update
         set rows_lost = excluded.rows_lost, words = excluded.words, oldest_at = excluded.oldest_at, at = excluded.at",
        account.as_str(),
        refused.list,
        page_number(refused.page),
        refused.rows_lost,
        refused.words,
        refused.oldest_at
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn page_number(page: u32) -> i32 {
    i32::try_from(page).unwrap_or(i32::MAX)
}

/// A page behind some refused ones was read: those tell of nothing older than it does.
pub async fn bound(
    connection: &mut PgConnection,
    account: &AccountId,
    list: &str,
    pages: &[u32],
    oldest: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let pages: Vec<i32> = pages.iter().copied().map(page_number).collect();
    sqlx::query!(
        "update vobiz.refused_page set oldest_at = $4 where account_id = $1 and list = $2 and page = any($3)",
        account.as_str(),
        list,
        &pages,
        oldest
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the pages that were refused before an instant, when a list began to be read that has shown them since. The list of a day was
/// read to its end, and its parts with it. A sweep reads what a drain reads, too, but no deeper than `reached`; to the end where there is
/// none.
pub async fn forget(
    connection: &mut PgConnection,
    account: &AccountId,
    list: &str,
    before: DateTime<Utc>,
    reached: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from vobiz.refused_page
         where account_id = $1 and at < $3
           and case when $2 <> 'sweep' then list = $2 or starts_with(list, $2 || ', ')
                    else list in ('sweep', 'drain') and (oldest_at is null or $4::timestamptz is null or oldest_at >= $4) end",
        account.as_str(),
        list,
        before,
        reached
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the refused pages of lists that were read whole in another way.
pub async fn forget_lists(
    connection: &mut PgConnection,
    account: &AccountId,
    lists: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from vobiz.refused_page where account_id = $1 and list = any($2)",
        account.as_str(),
        lists
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets refused pages of sweeps and drains of which all days were settled since: the lists of these show what was in them.
pub async fn forget_settled(connection: &mut PgConnection, account: &AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from vobiz.refused_page r
         where r.account_id = $1 and r.list in ('sweep', 'drain') and r.oldest_at is not null
           and not exists (
             select from generate_series(vobiz.provider_day_of($1, r.oldest_at), vobiz.provider_day_of($1, r.at), interval '1 day') g
             where not exists (
               select from vobiz.provider_day d
               where d.account_id = $1 and d.day = g::date and d.state = 'settled' and d.reopened_at is null and d.began_at > r.at))",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}
