//! The pause of an account, its history, and the probe that ends it. What one replica finds pauses that replica; `vobiz.count_votes`
//! says when it pauses the account for all.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::Replica;
use super::replica::{count_votes, seen};
use crate::db::base::time::interval;
use crate::retry::PauseReason;
use crate::vobiz::AccountId;

/// The status of an account for one replica: whether it is paused, and whether to probe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    /// Why it is paused; `None` if it is not.
    pub pause_reason: Option<String>,
    /// Its pause waits for a probe of this replica, which tries no other for a minute.
    pub probe: bool,
}

/// What a replica found, in short.
#[derive(Debug, Clone, Copy)]
pub struct Pause<'a> {
    /// Why it pauses.
    pub reason: PauseReason,
    /// For how long, or until the next probe.
    pub length: Duration,
    /// The failure in words, without what Vobiz said.
    pub error: &'a str,
}

/// Pauses an account for a replica, and for all if nobody is left who might work or another agrees. A 429 counts for all, unless only this
/// replica says so and it has never had a good answer. A pause that is on already is extended, never shortened; its reason
/// is that of the newest failure, but never goes back to throttled. A new throttling pause halves the rate, once.
pub async fn pause(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
    pause: Pause<'_>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let throttled = pause.reason == PauseReason::Throttled;
    if throttled && is_believed(&mut transaction, account, replica).await? {
        sqlx::query!(
            "select vobiz.begin_pause($1, 'throttled', $2)",
            account.as_str(),
            interval(pause.length) as _
        )
        .execute(&mut *transaction)
        .await?;
        return transaction.commit().await;
    }
    sqlx::query!(
        "insert into vobiz.account_replica as r
           (account_id, replica, host, pid, seen_at, pause_reason, paused_since, probe_at, error)
         select account_id, $2, $3, $4, vobiz.now(), $5, vobiz.now(), vobiz.now() + $6, $7
         from vobiz.account where account_id = $1
         on conflict (account_id, replica) do update set
           seen_at = excluded.seen_at,
           pause_reason = case when excluded.pause_reason = 'throttled' then coalesce(r.pause_reason, 'throttled') else excluded.pause_reason end,
           paused_since = case when r.pause_reason <> 'throttled' or r.probe_at > vobiz.now()
                               then least(r.paused_since, excluded.paused_since) else excluded.paused_since end,
           probe_at = case when r.pause_reason is not null and r.probe_at <= vobiz.now() + interval '61 minutes'
                           then greatest(r.probe_at, excluded.probe_at) else excluded.probe_at end,
           error = excluded.error",
        account.as_str(),
        replica.id,
        replica.host,
        i64::from(replica.pid),
        pause.reason.as_str(),
        interval(pause.length) as _,
        pause.error
    )
    .execute(&mut *transaction)
    .await?;
    if !throttled {
        count_votes(&mut transaction, account).await?;
    }
    transaction.commit().await
}

/// Whether what a replica says of throttling counts for all: it has had a good answer, or it is the only one.
async fn is_believed(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from vobiz.account_replica r
                          where r.account_id = $1 and r.replica = $2 and r.last_answer_at is not null)
               or not exists (select from vobiz.account_replica r
                              where r.account_id = $1 and r.replica <> $2 and vobiz.is_live(r)) as "believed!""#,
        account.as_str(),
        replica.id
    )
    .fetch_one(connection)
    .await
}

/// A probe of a replica succeeded: ends its pause, and that of all, now. A pause for another reason, which came while the
/// probe was under way, stays.
pub async fn resume(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let own = sqlx::query_scalar!(
        r#"update vobiz.account_replica r set
             seen_at = vobiz.now(), last_answer_at = vobiz.now(),
             pause_reason = case when r.pause_reason <> $3 then r.pause_reason end,
             paused_since = case when r.pause_reason <> $3 then r.paused_since end,
             error = case when r.pause_reason <> $3 then r.error end
           where r.account_id = $1 and r.replica = $2
           returning r.pause_reason"#,
        account.as_str(),
        replica.id,
        reason
    )
    .fetch_optional(&mut *transaction)
    .await?
    .flatten();
    if own.is_none() {
        sqlx::query!(
            "select vobiz.end_pause(account_id) from vobiz.account
             where account_id = $1 and (pause_reason = $2 or pause_reason <> 'throttled')",
            account.as_str(),
            reason
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

/// What a replica has to know before it asks.
struct Look {
    /// Why it may not.
    reason: Option<String>,
    /// It has not said for a while that it is there.
    stale: bool,
}

async fn look(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<Option<Look>, sqlx::Error> {
    sqlx::query_as!(
        Look,
        r#"select case when vobiz.is_paused_for(a, $2)
                       then case when own.pause_reason <> 'throttled' or not vobiz.is_paused(a) then own.pause_reason
                                 else a.pause_reason end end as reason,
                  own.replica is null or own.seen_at < vobiz.now() - interval '20 seconds' or own.seen_at > vobiz.now() as "stale!"
           from vobiz.account a
           left join vobiz.account_replica own on own.account_id = a.account_id and own.replica = $2
           where a.account_id = $1"#,
        account.as_str(),
        replica.id
    )
    .fetch_optional(connection)
    .await
}

/// Why a replica may not ask for calls of an account; says now and then that it is there. None: there is no such account.
async fn pause_reason(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<Option<Option<String>>, sqlx::Error> {
    let mut found = look(&mut *connection, account, replica).await?;
    if found.as_ref().is_some_and(|found| found.stale) {
        let mut transaction = connection.begin().await?;
        seen(&mut transaction, account, replica, None).await?;
        transaction.commit().await?;
        found = look(connection, account, replica).await?;
    }
    Ok(found.map(|found| found.reason))
}

/// Reads the status of an account for a replica, and claims its probe if one is due: it gets one a minute.
pub async fn status(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<Option<AccountStatus>, sqlx::Error> {
    let Some(pause_reason) = pause_reason(&mut *connection, account, replica).await? else { return Ok(None) };
    let waits = pause_reason.as_deref().is_some_and(|reason| reason != PauseReason::Throttled.as_str());
    let probe = waits && claim_probe(connection, account, replica).await?;
    Ok(Some(AccountStatus { pause_reason, probe }))
}

/// Claims the probe of a replica, and lets the pause of all go on until the next one, where it is on.
async fn claim_probe(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let claimed = sqlx::query!(
        "update vobiz.account_replica set probe_at = vobiz.now() + interval '1 minute', seen_at = vobiz.now()
         where account_id = $1 and replica = $2
           and (probe_at is null or probe_at <= vobiz.now() or probe_at > vobiz.now() + interval '61 minutes')",
        account.as_str(),
        replica.id
    )
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if claimed > 0 {
        sqlx::query!(
            "select vobiz.begin_pause(a.account_id, a.pause_reason, interval '1 minute') from vobiz.account a
             where a.account_id = $1 and a.pause_reason <> 'throttled'",
            account.as_str()
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(claimed > 0)
}

/// Makes the probe of accounts that are denied to a replica due now: its credentials may be new.
pub async fn probe_soon(
    connection: &mut PgConnection,
    accounts: &[AccountId],
    replica: &Replica,
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    sqlx::query!(
        "update vobiz.account_replica set probe_at = vobiz.now()
         where account_id = any($1) and replica = $2 and (pause_reason = 'denied' or pause_reason is null)",
        &ids as &[&str],
        replica.id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether an account is paused for a replica. Claims nothing: for those who only want to know.
pub async fn is_paused(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<bool, sqlx::Error> {
    let reason = pause_reason(connection, account, replica).await?;
    Ok(reason.is_none_or(|reason| reason.is_some()))
}
