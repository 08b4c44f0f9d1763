//! Accounts: their pause, their shared rate limit and the progress of their sweep. One row serves all replicas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::base::time::{interval, seconds};
use crate::retry::PauseReason;
use crate::vobiz::AccountId;

/// Requests that an account may send, reserved for the caller: the first after `wait`, each further one `every` later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slots {
    /// How many.
    pub count: u32,
    /// Until the first one, from now.
    pub wait: Duration,
    /// Between two of them.
    pub every: Duration,
}

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
        "with pauses as (delete from vobiz.account_pause where account_id = $1)
         delete from vobiz.account where account_id = $1",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
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

/// Calls that are owed for accounts other than these, by account.
pub async fn owed_elsewhere(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    let rows = sqlx::query!(
        r#"select account_id, count(*) as "calls!" from vobiz.cdr_queue
           where account_id <> all($1) group by account_id order by account_id"#,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.calls)).collect())
}

/// How an account stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    /// Why it is paused; `None` if it is not.
    pub pause_reason: Option<String>,
    /// Its pause waits for a probe, and the probe is now the caller's: no other replica will try for a minute.
    pub probe: bool,
}

/// Reads how an account stands, and claims the probe if one is due: one replica a minute gets it.
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

/// Reserves up to `most` requests no further than `ahead` from now. `max_rps` is the limit of all replicas together; a
/// throttling pause lowers what is in force for a while.
///
/// This is GCRA with one row as its state. It does not look at the pause: a probe must get through.
pub async fn reserve(
    connection: &mut PgConnection,
    account: &AccountId,
    max_rps: f64,
    most: u32,
    ahead: Duration,
) -> Result<Slots, sqlx::Error> {
    let row = sqlx::query!(
        r#"with pace as (
             select account_id, greatest(next_slot, vobiz.now()) as first_slot,
                    $2 * vobiz.rate_in_force(a) as rate
             from vobiz.account a where account_id = $1 for no key update
           ), room as (
             select account_id, first_slot, rate, extract(epoch from first_slot - vobiz.now())::float8 as wait,
                    case when first_slot > vobiz.now() + $4 then 0
                         else least($3::bigint, 1 + floor(extract(epoch from vobiz.now() + $4 - first_slot) * rate)::bigint)
                    end as slots
             from pace
           ), taken as (
             update vobiz.account a set next_slot = r.first_slot + make_interval(secs => r.slots / r.rate)
             from room r where a.account_id = r.account_id and r.slots > 0
           )
           select slots as "slots!", wait as "wait!", rate as "rate!" from room"#,
        account.as_str(),
        max_rps,
        i64::from(most),
        interval(ahead) as _,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(Slots { count: 0, wait: ahead, every: ahead }, |row| Slots {
        count: u32::try_from(row.slots).unwrap_or(0),
        wait: seconds(row.wait),
        every: seconds(1.0 / row.rate),
    }))
}

/// Writes down a good answer of the API.
pub async fn answered(connection: &mut PgConnection, account: &AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.account set last_answer_at = vobiz.now()
         where account_id = $1 and (last_answer_at is null or last_answer_at < vobiz.now() - interval '10 seconds')",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a sweep needs to know before it starts.
#[derive(Debug, Clone)]
pub struct SweepPlan {
    /// Start of this sweep: becomes the mark when it completes.
    pub now: DateTime<Utc>,
    /// The list is read down to here.
    pub down_to: DateTime<Utc>,
    /// This one has the wide overlap.
    pub wide: bool,
    /// How far down it would be read with the narrow overlap.
    pub narrow_to: DateTime<Utc>,
}

impl SweepPlan {
    /// The same sweep with the narrow overlap; the wide one is left to the next sweep.
    #[must_use]
    pub fn narrowed(self) -> Self {
        Self { down_to: self.narrow_to, wide: false, ..self }
    }
}

/// Plans the next sweep, if one is due: newest first, down to the start of the last completed one minus an hour; once an hour
/// minus 26 hours, and a wide one leaves no gap to the one before it. The first sweep of an account goes back 26 hours before
/// it was registered.
pub async fn plan_sweep(
    connection: &mut PgConnection,
    account: &AccountId,
    every: Duration,
) -> Result<Option<SweepPlan>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.now() as "now!",
                  swept_at is null or swept_at <= vobiz.now() - $2::interval as "due!",
                  swept_wide_at is null or swept_wide_at <= vobiz.now() - interval '1 hour' as "wide!",
                  coalesce(sweep_from, ledger_since) - interval '1 hour' as "narrow_to!",
                  -- A wide one that had to wait (see narrowed) still covers what it was to cover.
                  least(coalesce(sweep_from, ledger_since) - interval '26 hours',
                        coalesce(swept_wide_at, ledger_since) - interval '25 hours') as "wide_to!"
           from vobiz.account where account_id = $1"#,
        account.as_str(),
        interval(every) as _
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.filter(|row| row.due).map(|row| SweepPlan {
        now: row.now,
        down_to: if row.wide { row.wide_to } else { row.narrow_to },
        wide: row.wide,
        narrow_to: row.narrow_to,
    }))
}

/// Takes the right to sweep an account, for the life of the connection; false if another replica has it.
pub async fn try_lock_sweep(connection: &mut PgConnection, account: &AccountId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_lock(hashtextextended('vobiz sweep ' || $1, 0)) as "locked!""#,
        account.as_str()
    )
    .fetch_one(connection)
    .await
}

/// Writes down a completed sweep.
pub async fn swept(
    connection: &mut PgConnection,
    account: &AccountId,
    plan: &SweepPlan,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.account set sweep_from = $2, swept_at = vobiz.now(),
                swept_wide_at = case when $3 then $2 else swept_wide_at end
         where account_id = $1",
        account.as_str(),
        plan.now,
        plan.wide
    )
    .execute(connection)
    .await?;
    Ok(())
}
