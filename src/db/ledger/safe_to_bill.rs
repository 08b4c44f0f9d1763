//! Up to when it is safe to bill, and the record of how that moved.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A move of safe_to_bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where it stood; none at first.
    pub from: Option<DateTime<Utc>>,
    /// Where it is.
    pub to: DateTime<Utc>,
    /// It moved back: something that was settled is not any more.
    pub back: bool,
    /// What holds it.
    pub held_by: String,
}

/// Appends where it is, if that changed since the last time.
pub async fn note(connection: &mut PgConnection, account: &AccountId) -> Result<Option<Moved>, sqlx::Error> {
    let row = sqlx::query!(
        r#"insert into vobiz.safe_to_bill_move (account_id, safe_to, was, held_by)
           select s.account_id, s.safe_to, m.safe_to, s.held_by
           from vobiz.safe_to_bill s
           left join lateral (
             select m.safe_to from vobiz.safe_to_bill_move m where m.account_id = s.account_id order by m.id desc limit 1) m on true
           where s.account_id = $1 and s.safe_to is distinct from m.safe_to
           returning was as "from", safe_to as "to!", held_by as "held_by!""#,
        account.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Moved {
        from: row.from,
        to: row.to,
        back: row.from.is_some_and(|from| from > row.to),
        held_by: row.held_by,
    }))
}
