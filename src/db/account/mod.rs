//! Accounts: one row serves all replicas. Here is the row itself: who has one, and what is known of how an account is asked;
//! its rate limit, its pause and the marks of its sweep have files of their own.

mod pause;
mod rate;
mod replica;
mod sweep;

use sqlx::PgConnection;

use crate::vobiz::AccountId;

pub use pause::{AccountStatus, Pause, is_paused, pause, probe_soon, resume, status};
pub use rate::{Slots, reserve};
pub use replica::{Duty, Replica, ReplicaSnapshot, answered, leave, leave_others, present, replicas};
pub use sweep::{SweepPlan, lease_name, plan_sweep, swept};

/// Makes a row for each configured account that has none.
pub async fn register(connection: &mut PgConnection, accounts: &[AccountId]) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    sqlx::query!(
        "insert into vobiz.account (account_id) select unnest($1::text[]) on conflict do nothing",
        &ids as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which of these accounts have a row.
pub async fn registered(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<String>, sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    sqlx::query_scalar!("select account_id from vobiz.account where account_id = any($1)", &ids as &[&str])
        .fetch_all(connection)
        .await
}

/// Takes back what [`register`] did for an account that turned out to be none: a slip of the pen in its id.
pub async fn unregister(connection: &mut PgConnection, account: &AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with pauses as (delete from vobiz.account_pause where account_id = $1),
              replicas as (delete from vobiz.account_replica where account_id = $1)
         delete from vobiz.account where account_id = $1",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down the casing of the API path that works.
pub async fn set_api_path(
    connection: &mut PgConnection,
    account: &AccountId,
    casing: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!("update vobiz.account set api_path = $2 where account_id = $1", account.as_str(), casing)
        .execute(connection)
        .await?;
    Ok(())
}

/// The casing of the API path that worked last.
pub async fn api_path(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Option<String>, sqlx::Error> {
    Ok(sqlx::query_scalar!("select api_path from vobiz.account where account_id = $1", account.as_str())
        .fetch_optional(connection)
        .await?
        .flatten())
}
