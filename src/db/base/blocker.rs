//! Who holds a lock that our sessions wait for, in words by which a person can end it. A statement that was broken off no longer waits, so
//! it is asked while one waits: by `ops` with each poll, and by whoever waits for long ([`told`]).

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::sleep;
use tracing::warn;

/// A wait is said after this.
const SAY_AFTER: Duration = Duration::from_secs(5);
/// And again after this.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// Who tries for a moment at a time does not wait at each look.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A session that others wait for, and that waits for no lock itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blocker {
    /// Its server process; 0 for a prepared transaction, which has none.
    pub pid: i32,
    /// Its role.
    pub role: String,
    /// What it calls itself; empty if it does not.
    pub application: String,
    /// Begin of its transaction; none where we may not see that.
    pub since: Option<DateTime<Utc>>,
    /// Sessions of ours that wait for it.
    pub waiting: i64,
    /// For how many seconds the first of them has waited.
    pub waited_seconds: f64,
}

impl Blocker {
    /// It is a session of this service, or of a command of it: it ends by its own limits.
    pub fn is_ours(&self) -> bool {
        self.application.starts_with("vobiz-cdr")
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        let pid = self.pid;
        if pid == 0 {
            return "see pg_prepared_xacts for the transaction that was prepared and never ended: `commit prepared` or `rollback prepared` it"
                .into();
        }
        format!(
            "see what it does (`select * from pg_stat_activity where pid = {pid}`), and have it commit or roll back, or end it: `select \
             pg_terminate_backend({pid})`"
        )
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, role, application, since, .. } = self;
        if *pid == 0 {
            return f.write_str("a prepared transaction (pg_prepared_xacts)");
        }
        let application = if application.is_empty() { "without a name" } else { application };
        write!(f, "session {pid} (role {role}, application {application}, ")?;
        match since {
            Some(since) => write!(f, "in its transaction since {})", since.format("%Y-%m-%d %H:%M:%SZ")),
            None => f.write_str("since when is hidden from our role)"),
        }
    }
}

/// Several of them, in words.
pub fn in_words(blockers: &[Blocker]) -> String {
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The sessions that ours wait for (or one of ours, by its process), the longest first. Who waits itself, behind another, is passed over
/// for the one at the end.
pub async fn blockers(connection: &mut PgConnection, of: Option<i32>) -> Result<Vec<Blocker>, sqlx::Error> {
    sqlx::query_as!(
        Blocker,
        r#"with recursive waits as (
             select ours.pid as waiter, ours.query_start, blocking.pid
             from pg_catalog.pg_stat_activity ours cross join lateral unnest(pg_catalog.pg_blocking_pids(ours.pid)) as blocking (pid)
             where ours.pid = $1
                or ($1::int is null and ours.datname = current_database() and ours.application_name like 'vobiz-cdr%'
                    and ours.wait_event_type = 'Lock')
             union
             select w.waiter, w.query_start, blocking.pid
             from waits w cross join lateral unnest(pg_catalog.pg_blocking_pids(w.pid)) as blocking (pid)
           )
           select w.pid as "pid!", coalesce(holder.usename::text, '?') as "role!",
                  coalesce(holder.application_name, '') as "application!", holder.xact_start as since,
                  count(distinct w.waiter) as "waiting!",
                  greatest(extract(epoch from clock_timestamp() - min(w.query_start)), 0)::float8 as "waited_seconds!"
           from waits w left join pg_catalog.pg_stat_activity holder on holder.pid = w.pid
           where cardinality(pg_catalog.pg_blocking_pids(w.pid)) = 0 and w.pid <> w.waiter
           group by w.pid, holder.usename, holder.application_name, holder.xact_start
           order by 6 desc, 1
           limit 5"#,
        of
    )
    .fetch_all(connection)
    .await
}

/// Sessions that are none of ours and have rows of `vobiz.work_lease` locked, or the table. Nobody waits for such a row: who finds it
/// locked takes it for somebody at work.
pub async fn lease_holders(connection: &mut PgConnection) -> Result<Vec<Blocker>, sqlx::Error> {
    sqlx::query_as!(
        Blocker,
        r#"select a.pid as "pid!", coalesce(a.usename::text, '?') as "role!", coalesce(a.application_name, '') as "application!",
                  a.xact_start as since, 0::bigint as "waiting!", 0::float8 as "waited_seconds!"
           from pg_catalog.pg_stat_activity a
           where coalesce(a.application_name, '') not like 'vobiz-cdr%'
             and a.pid in (
               select l.pid from pg_catalog.pg_locks l
               where l.locktype = 'relation' and l.granted and l.relation = to_regclass('vobiz.work_lease')
                 and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
                 -- Reading takes the first, vacuum the second.
                 and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock'))
           order by 4, 1
           limit 5"#
    )
    .fetch_all(connection)
    .await
}

/// The server process of a session.
pub async fn process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(r#"select pg_catalog.pg_backend_pid() as "pid!""#).fetch_one(connection).await
}

/// Does a piece of work in the session with this process, and says in the log, through another session, whom it waits for: after five
/// seconds, and every thirty.
pub async fn told<T>(what: &str, pid: i32, beside: &mut PgConnection, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = say(what, pid, beside) => match never {},
    }
}

async fn say(what: &str, pid: i32, beside: &mut PgConnection) -> Infallible {
    sleep(SAY_AFTER).await;
    loop {
        match blockers(beside, Some(pid)).await {
            Ok(blockers) if !blockers.is_empty() => {
                let cure = blockers[0].cure();
                warn!("{what} for a lock that {} holds: {cure}", in_words(&blockers));
                sleep(SAY_AGAIN).await;
            }
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_told_by_process_role_application_and_time() {
        let psql = Blocker {
            pid: 4711,
            role: "ops".into(),
            application: "psql".into(),
            since: DateTime::from_timestamp(1_800_000_000, 0),
            waiting: 2,
            waited_seconds: 7.0,
        };
        let unknown = Blocker { application: String::new(), since: None, ..psql.clone() };
        let prepared = Blocker { pid: 0, ..unknown.clone() };
        assert_eq!(
            in_words(&[psql.clone(), unknown, prepared.clone()]),
            "session 4711 (role ops, application psql, in its transaction since 2027-01-15 08:00:00Z), session 4711 (role ops, \
             application without a name, since when is hidden from our role), a prepared transaction (pg_prepared_xacts)"
        );
        assert!(
            psql.cure().contains("pg_terminate_backend(4711)")
                && prepared.cure().contains("rollback prepared")
        );
    }
}
