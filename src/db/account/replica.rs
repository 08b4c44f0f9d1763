//! The processes that ask Vobiz for an account, and what each of them sees of it: where only one of them fails, only that one is paused.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::db::base::clock::MOST_BEHIND;
use crate::vobiz::AccountId;

/// A process that asks Vobiz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// A number that it draws when it starts: after a restart, nothing is known of it.
    pub id: Uuid,
    /// The machine it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
}

impl Replica {
    /// This process.
    pub fn this() -> Arc<Self> {
        static THIS: OnceLock<Arc<Replica>> = OnceLock::new();
        Arc::clone(THIS.get_or_init(|| Arc::new(Self::new(&host(), std::process::id()))))
    }

    /// A process that nobody has seen yet.
    pub fn new(host: &str, pid: u32) -> Self {
        Self { id: Uuid::new_v4(), host: host.to_owned(), pid }
    }
}

/// The name of this machine; in a container that of the container.
fn host() -> String {
    let named =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| "this machine".to_owned())
}

/// The most that a process does for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Asks for owed calls, whatever else it does.
    Fetch,
    /// Reads lists alone: it sweeps, or is a command.
    List,
    /// Takes callbacks, and asks Vobiz nothing.
    Receive,
}

impl Duty {
    /// As it stands in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::List => "list",
            Self::Receive => "receive",
        }
    }
}

/// What a process sees of an account.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaSnapshot {
    /// The account.
    pub account_id: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: i64,
    /// The most that it does for the account: `fetch`, `list` or `receive`.
    pub duty: String,
    /// Why it asks for no calls of the account; none if it does.
    pub pause_reason: Option<String>,
    /// For how many seconds.
    pub paused_seconds: Option<f64>,
    /// The failure that paused it, or that of its last probe.
    pub error: Option<String>,
    /// Seconds since its last good answer; none if it never had one.
    pub answered_seconds_ago: Option<f64>,
}

/// The processes that are there, by account.
pub async fn replicas(connection: &mut PgConnection) -> Result<Vec<ReplicaSnapshot>, sqlx::Error> {
    sqlx::query_as!(
        ReplicaSnapshot,
        r#"select r.account_id, r.host, r.pid, r.duty, p.reason as pause_reason,
                  case when p.reason is not null
                       then greatest(0, extract(epoch from vobiz.now() - r.paused_since))::float8 end as paused_seconds,
                  case when p.reason is not null then r.error end as error,
                  case when r.last_answer_at is not null
                       then greatest(0, extract(epoch from vobiz.now() - r.last_answer_at))::float8 end as answered_seconds_ago
           from vobiz.account_replica r
           cross join lateral (
             select case when r.pause_reason <> 'throttled' or r.probe_at > vobiz.now() then r.pause_reason end as reason) p
           where vobiz.is_there(r)
           order by r.account_id, r.host, r.pid"#
    )
    .fetch_all(connection)
    .await
}

/// Writes down that a process is configured with an account, and what it does for it: who retires the account must know of it, and whether
/// anybody fetches must be known.
pub async fn present(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
    duty: Duty,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    seen(&mut transaction, account, replica, Some(duty)).await?;
    transaction.commit().await
}

/// Writes down that a replica looks at an account, and counts the votes anew: one may be stale by now. Removes rows of processes that are
/// gone for long, and mends instants that nobody would write anew. A process that has not said what it does is one that fetches.
pub(super) async fn seen(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
    duty: Option<Duty>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with gone as (
           delete from vobiz.account_replica
           where account_id = $1 and replica <> $2 and greatest(seen_at, probe_at) < vobiz.now() - interval '7 days'
         )
         insert into vobiz.account_replica as r (account_id, replica, host, pid, seen_at, duty)
         select account_id, $2, $3, $4, vobiz.now(), coalesce($5, 'fetch') from vobiz.account where account_id = $1
         on conflict (account_id, replica) do update set seen_at = excluded.seen_at, duty = coalesce($5, r.duty)",
        account.as_str(),
        replica.id,
        replica.host,
        i64::from(replica.pid),
        duty.map(Duty::as_str)
    )
    .execute(&mut *connection)
    .await?;
    // What is right looks late to a clock that is behind.
    let not_behind = DateTime::<Utc>::from(SystemTime::now()) - MOST_BEHIND;
    sqlx::query!("select vobiz.mend_instants($1) where vobiz.now() >= $2", account.as_str(), not_behind)
        .execute(&mut *connection)
        .await?;
    count_votes(&mut *connection, account).await?;
    sqlx::query!("select vobiz.note_unfetched($1)", account.as_str()).execute(connection).await?;
    Ok(())
}

/// A process that stops says nothing of its accounts any more: neither votes nor alarms.
pub async fn leave(connection: &mut PgConnection, replica: &Replica) -> Result<(), sqlx::Error> {
    leave_others(connection, replica, &[]).await
}

/// The same of all accounts but those that it is configured with now.
pub async fn leave_others(
    connection: &mut PgConnection,
    replica: &Replica,
    configured: &[AccountId],
) -> Result<(), sqlx::Error> {
    let configured: Vec<&str> = configured.iter().map(AccountId::as_str).collect();
    let mut left = sqlx::query_scalar!(
        "delete from vobiz.account_replica where replica = $1 and account_id <> all($2) returning account_id",
        replica.id,
        &configured as &[&str]
    )
    .fetch_all(&mut *connection)
    .await?;
    // Rows of accounts are locked in one order.
    left.sort_unstable();
    for account in left {
        sqlx::query!("select vobiz.count_votes($1)", account).execute(&mut *connection).await?;
        // Where nobody is there any more, nothing is missed.
        sqlx::query!(
            "select vobiz.note_unfetched($1)
             where exists (select from vobiz.account_replica r where r.account_id = $1 and vobiz.is_there(r))",
            account
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes down a good answer of the API: it outvotes what other replicas see.
pub async fn answered(
    connection: &mut PgConnection,
    account: &AccountId,
    replica: &Replica,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!(
        "insert into vobiz.account_replica as r (account_id, replica, host, pid, seen_at, last_answer_at)
         select account_id, $2, $3, $4, vobiz.now(), vobiz.now() from vobiz.account where account_id = $1
         on conflict (account_id, replica) do update set seen_at = excluded.seen_at, last_answer_at = excluded.last_answer_at",
        account.as_str(),
        replica.id,
        replica.host,
        i64::from(replica.pid)
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "update vobiz.account set last_answer_at = vobiz.now()
         where account_id = $1
           and (last_answer_at is null or last_answer_at < vobiz.now() - interval '10 seconds' or last_answer_at > vobiz.now())",
        account.as_str()
    )
    .execute(&mut *transaction)
    .await?;
    count_votes(&mut transaction, account).await?;
    transaction.commit().await
}

/// Counts the votes, where there are any.
pub(super) async fn count_votes(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select vobiz.count_votes($1)
         where exists (select from vobiz.account_replica where account_id = $1 and pause_reason is not null)",
        account.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}
