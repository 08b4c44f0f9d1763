//! Pages of the list that Vobiz refuses while others come.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A page that was refused, and what of it is lost.
#[derive(Debug, Clone, Copy)]
pub struct RefusedPage<'a> {
    /// `sweep`, `drain` or `day YYYY-MM-DD`.
    pub list: &'a str,
    /// Its number, from 1.
    pub page: u32,
    /// Rows that no smaller page showed either.
    pub rows_lost: i32,
    /// All of that in words.
    pub words: &'a str,
}

/// Writes a refused page down.
pub async fn note(
    connection: &mut PgConnection,
    account: &AccountId,
    refused: &RefusedPage<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into vobiz.refused_page (account_id, list, page, rows_lost, words) values ($1, $2, $3, $4, $5)
         on conflict (account_id, list, page) do update
         set rows_lost = excluded.rows_lost, words = excluded.words, at = excluded.at",
        account.as_str(),
        refused.list,
        i32::try_from(refused.page).unwrap_or(i32::MAX),
        refused.rows_lost,
        refused.words
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the pages of a list that were refused before an instant, when it began to be read: it was read to its end since. A sweep reads
/// what a drain reads, too.
pub async fn forget(
    connection: &mut PgConnection,
    account: &AccountId,
    list: &str,
    before: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from vobiz.refused_page
         where account_id = $1 and at < $3 and (list = $2 or $2 = 'sweep' and list = 'drain')",
        account.as_str(),
        list,
        before
    )
    .execute(connection)
    .await?;
    Ok(())
}
