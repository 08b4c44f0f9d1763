//! Up to when it is safe to bill, and the record of how that moved.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A move of safe_to_bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The owner of the calls: the account, or one that is not configured and that its list shows.
    pub account_id: String,
    /// Where it stood; none at first.
    pub from: Option<DateTime<Utc>>,
    /// Where it is.
    pub to: DateTime<Utc>,
    /// It moved back: something that was settled is not any more.
    pub back: bool,
    /// What holds it.
    pub held_by: String,
}

/// Appends where it is, for an account and the owners of calls that its list shows, if that changed since the last time.
pub async fn note(connection: &mut PgConnection, account: &AccountId) -> Result<Vec<Moved>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"insert into vobiz.safe_to_bill_move (account_id, safe_to, was, held_by)
           select s.account_id, s.safe_to, m.safe_to, s.held_by
           from vobiz.safe_to_bill s
           left join lateral (
             select m.safe_to from vobiz.safe_to_bill_move m where m.account_id = s.account_id order by m.id desc limit 1) m on true
           where coalesce(s.listed_by, s.account_id) = $1 and s.safe_to is distinct from m.safe_to
           returning account_id, was as "from", safe_to as "to!", held_by as "held_by!""#,
        account.as_str()
    )
    .fetch_all(connection)
    .await?;
    let moved = rows.into_iter().map(|row| Moved {
        account_id: row.account_id,
        from: row.from,
        to: row.to,
        back: row.from.is_some_and(|from| from > row.to),
        held_by: row.held_by,
    });
    Ok(moved.collect())
}
