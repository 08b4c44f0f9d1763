//! The pause of an account, its history, and the probe that ends it.

use std::time::Duration;

use sqlx::PgConnection;

use crate::db::base::time::interval;
use crate::retry::PauseReason;
use crate::vobiz::AccountId;

/// The status of an account: whether it is paused, and who probes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    /// Why it is paused; `None` if it is not.
    pub pause_reason: Option<String>,
    /// Its pause waits for a probe, and the probe is now the caller's: no other replica will try for a minute.
    pub probe: bool,
}

/// Pauses an account for `length` from now. A pause that is on already is extended, never shortened; its reason changes only
/// from throttled to a graver one. A new throttling pause halves the rate, once.
pub async fn pause(
    connection: &mut PgConnection,
    account: &AccountId,
    reason: PauseReason,
    length: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with present as (
           select account_id, pause_reason, paused_since,
                  vobiz.is_paused(a) as paused, vobiz.rate_in_force(a) as share
           from vobiz.account a where account_id = $1 for no key update
         ), paused as (
           update vobiz.account a set
             paused_since = case when p.paused then p.paused_since else vobiz.now() end,
             paused_until = case when p.paused then greatest(a.paused_until, vobiz.now() + $3) else vobiz.now() + $3 end,
             pause_reason = case when p.paused and p.pause_reason <> 'throttled' then p.pause_reason else $2 end,
             -- Halved once a pause; 0.02 is the floor: even a limit of 1 request a second still moves.
             rate_share = case when $2 = 'throttled' and not p.paused
                               then greatest(0.02, p.share / 2) else a.rate_share end,
             rate_share_at = case when $2 = 'throttled' and not p.paused then vobiz.now() else a.rate_share_at end
           from present p where a.account_id = p.account_id
           returning a.account_id, a.paused_since, a.paused_until, a.pause_reason
         )
         insert into vobiz.account_pause as h (account_id, started_at, until_at, reason)
         select account_id, paused_since, paused_until, pause_reason from paused
         on conflict (account_id, started_at) do update set until_at = greatest(h.until_at, excluded.until_at)",
        account.as_str(),
        reason.as_str(),
        interval(length) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the pause of an account now, and its stretch of history with it. A pause for another reason, which came while the
/// probe was under way, stays.
pub async fn resume(
    connection: &mut PgConnection,
    account: &AccountId,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with resumed as (
           update vobiz.account a set paused_since = null, paused_until = null, pause_reason = null
           from (select account_id, paused_since from vobiz.account
                 where account_id = $1 and pause_reason = $2 for no key update) was
           where a.account_id = was.account_id
           returning was.account_id, was.paused_since
         )
         update vobiz.account_pause h set until_at = greatest(vobiz.now(), h.started_at)
         from resumed r where h.account_id = r.account_id and h.started_at = r.paused_since",
        account.as_str(),
        reason
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads the status of an account, and claims the probe if one is due: one replica a minute gets it.
pub async fn status(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Option<AccountStatus>, sqlx::Error> {
    let row = sqlx::query!(
        r#"with claimed as (
             update vobiz.account set paused_until = vobiz.now() + interval '1 minute'
             where account_id = $1 and pause_reason <> 'throttled' and paused_until <= vobiz.now()
             returning account_id, paused_since, paused_until
           ), noted as (
             update vobiz.account_pause h set until_at = c.paused_until
             from claimed c where h.account_id = c.account_id and h.started_at = c.paused_since
           )
           select case when vobiz.is_paused(a) then pause_reason end as pause_reason,
                  exists (select from claimed) as "probe!"
           from vobiz.account a where account_id = $1"#,
        account.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| AccountStatus { pause_reason: row.pause_reason, probe: row.probe }))
}

/// Makes the probe of denied accounts due now: their credentials may be new.
pub async fn probe_soon(connection: &mut PgConnection, accounts: &[AccountId]) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    sqlx::query!(
        "update vobiz.account set paused_until = least(paused_until, vobiz.now())
         where account_id = any($1) and pause_reason = 'denied'",
        &ids as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether an account is paused. Claims nothing: for those who only want to know.
pub async fn is_paused(connection: &mut PgConnection, account: &AccountId) -> Result<bool, sqlx::Error> {
    let paused = sqlx::query_scalar!(
        r#"select vobiz.is_paused(a) as "paused!" from vobiz.account a where account_id = $1"#,
        account.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(paused.unwrap_or(true))
}
