//! What is asked of each session, and what of it is in force. It is asked for in the session, not at its start: a pooler drops or refuses
//! the options of a startup packet, and says nothing. And it is read back: a promise must not rest on what was only asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

/// Who works in a session, and so how long it may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionUser {
    /// The service: its transactions never wait for anybody outside of Postgres.
    Service,
    /// A command: a person may read what it prints page by page, in the midst of a transaction.
    Command,
}

/// One message, so one round trip and no prepared statement, which a pooler might mix up: asks, then reads back.
///
/// A host that vanishes without a word must not keep what it holds: an idle session ends a minute after it, one that has sent rows or
/// waits in an open transaction within its limits, and a statement whose client is gone within ten seconds.
macro_rules! settings {
    ($idle_in_transaction:literal, $user_timeout:literal) => {
        concat!(
            "do $$ begin
               perform set_config(name, value, false) from (values
                 ('synchronous_commit', 'on'),
                 -- Each statement sees what was committed before it: the sums of the bill and the fences of the ledger need that.
                 ('default_transaction_isolation', 'read committed'),
                 -- A policy that hides rows from us is an error, not a smaller bill.
                 ('row_security', 'off'),
                 ('standard_conforming_strings', 'on'),
                 ('timezone', 'UTC'),
                 ('lock_timeout', '30s'),
                 -- A connection that waits in the pool, or shows that a holder of a lease lives, is not idle for nothing.
                 ('idle_session_timeout', '0'),
                 ('idle_in_transaction_session_timeout', '",
            $idle_in_transaction,
            "'),
                 ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'),
                 ('tcp_user_timeout', '",
            $user_timeout,
            "'),
                 ('client_connection_check_interval', '10s'),
                 -- Our statements go by key. A plan that was made and kept while the queue was empty would read all of a backlog
                 -- for each group: 1.6k instead of 11k CDRs a second were measured until autovacuum looked in.
                 ('enable_seqscan', 'off'),
                 -- Short statements all: compiling one costs more than running it.
                 ('jit', 'off')) as asked (name, value)
               -- Where the server cannot see that a client is gone, it refuses to be asked to.
               where name <> 'client_connection_check_interval' or version() ~* 'linux|darwin|apple|bsd';
             end $$;
             select current_setting('synchronous_commit') as synchronous_commit,
                    current_setting('default_transaction_isolation') as default_transaction_isolation,
                    current_setting('row_security') as row_security,
                    current_setting('standard_conforming_strings') as standard_conforming_strings,
                    current_setting('lock_timeout') as lock_timeout,
                    current_setting('idle_in_transaction_session_timeout') as idle_in_transaction_session_timeout,
                    current_setting('session_replication_role') as session_replication_role,
                    pg_backend_pid() as process,
                    (select name from unnest(current_schemas(true)) with ordinality as path (name, place)
                     where name not like 'pg\\_temp%' order by place limit 1) as search_path"
        )
    };
}

const SERVICE: &str = settings!("60s", "30s");
/// Whom nobody reads for an hour is gone; and a person who looks at a page for minutes does not read from the connection either.
const COMMAND: &str = settings!("1h", "0");

/// What must be in force, and the words that do for it.
fn needed(user: SessionUser) -> [(&'static str, &'static [&'static str]); 8] {
    let idle: &[&str] = match user {
        SessionUser::Service => &["1min"],
        SessionUser::Command => &["1h"],
    };
    [
        ("synchronous_commit", &["on", "remote_apply"]),
        ("default_transaction_isolation", &["read committed"]),
        ("row_security", &["off"]),
        ("standard_conforming_strings", &["on"]),
        ("lock_timeout", &["30s"]),
        ("idle_in_transaction_session_timeout", idle),
        ("session_replication_role", &["origin", "local"]),
        ("search_path", &["pg_catalog"]),
    ]
}

/// Why a session cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub enum SessionRefused {
    /// The triggers of the calls would not fire.
    #[error(
        "session_replication_role is replica in our sessions, so no trigger of vobiz.cdr fires and the bill does not follow the calls: \
         take it out of the role, the database or postgresql.conf (`alter role … reset session_replication_role`)"
    )]
    Replica,
    /// Objects of somebody else would stand in for those of Postgres.
    #[error(
        "search_path puts the schema {0} before pg_catalog in our sessions, so its functions would stand in for those of Postgres: take \
         it out of the role, the database or postgresql.conf (`alter role … reset search_path`)"
    )]
    SearchPath(String),
    /// Something else was asked for than what rules.
    #[error(
        "{name} = {found} rules in our session although {asked} was asked for, and what we promise rests on it: see who changes it between \
         us and Postgres (a pooler must pass sessions on: PgBouncer with pool_mode = session), or let DATABASE_URL name Postgres itself"
    )]
    NotInForce {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        asked: &'static str,
        /// What rules.
        found: String,
    },
    /// Two of our sessions are one at the server, or one of ours is two.
    #[error(
        "DATABASE_URL leads to a pooler that lends a server connection for a transaction only (PgBouncer with pool_mode = transaction or \
         statement): settings and prepared statements of one session would rule in another. Give this database pool_mode = session \
         there, or let DATABASE_URL name Postgres itself"
    )]
    Shared,
    /// The second of two sessions did not open.
    #[error(
        "one session opens and a second one does not: a pooler or a connection limit lets us have one only. The service needs up to \
         sixteen for each process (PgBouncer: pool_size and max_db_connections of this database)"
    )]
    OnlyOne,
}

/// Server processes of the sessions that a pool has opened.
#[derive(Debug, Clone, Default)]
pub struct OpenedSessions(Arc<Mutex<VecDeque<i32>>>);

impl OpenedSessions {
    /// More than a start opens; older ones are forgotten.
    const KEPT: usize = 32;

    pub(super) fn note(&self, process: i32) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(process);
        if kept.len() > Self::KEPT {
            kept.pop_front();
        }
    }

    /// The last of them.
    pub fn processes(&self) -> Vec<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// Asks for what a session must have in force, and reads it back; returns its server process.
pub async fn prepare(connection: &mut PgConnection, user: SessionUser) -> Result<i32, sqlx::Error> {
    let sql = match user {
        SessionUser::Service => SERVICE,
        SessionUser::Command => COMMAND,
    };
    let found = sqlx::raw_sql(sql).fetch_one(connection).await?;
    in_force(&found, user)?;
    found.try_get("process")
}

fn in_force(found: &PgRow, user: SessionUser) -> Result<(), sqlx::Error> {
    for (name, words) in needed(user) {
        let found: Option<String> = found.try_get(name)?;
        let found = found.unwrap_or_default();
        if !words.contains(&found.as_str()) {
            return Err(sqlx::Error::Configuration(Box::new(match name {
                "session_replication_role" => SessionRefused::Replica,
                "search_path" => SessionRefused::SearchPath(found),
                _ => SessionRefused::NotInForce { name, asked: words[0], found },
            })));
        }
    }
    Ok(())
}

/// A server process is asked for so often: other clients of the pooler may come in between.
const ROUNDS: usize = 5;

/// A second session takes no longer than this, beside what the pool waited.
const SECOND_OPENS_WITHIN: Duration = Duration::from_secs(5);

/// Opens a connection beside the pool and compares what both know of their server process: each must have one of its own, and keep it.
/// An error of the first is the caller's to word; none is needed of a Postgres that is away.
pub async fn check_pooling(pool: &PgPool, user: SessionUser) -> Result<(), sqlx::Error> {
    let mut beside = pool.connect_options().connect().await?;
    prepare(&mut beside, user).await?;
    let mut ours = match pool.acquire().await {
        Ok(ours) => ours,
        Err(sqlx::Error::PoolTimedOut) => {
            // On a machine that is only busy it opens in the end.
            let opens = tokio::time::timeout(SECOND_OPENS_WITHIN, async {
                prepare(&mut pool.connect_options().connect().await?, user).await
            });
            return if opens.await.is_ok() { Ok(()) } else { Err(refused(SessionRefused::OnlyOne)) };
        }
        Err(error) => return Err(error),
    };
    let (mut first, mut shared) = (None, false);
    for _ in 0..ROUNDS {
        let pids = (process(&mut beside).await?, process(&mut ours).await?);
        shared |= pids.0 == pids.1 || *first.get_or_insert(pids) != pids;
    }
    if shared {
        // What was asked for in it is no longer ours alone.
        ours.close_on_drop();
    }
    beside.close().await?;
    if shared { Err(refused(SessionRefused::Shared)) } else { Ok(()) }
}

fn refused(why: SessionRefused) -> sqlx::Error {
    sqlx::Error::Configuration(Box::new(why))
}

/// The server process of a session; by no prepared statement.
async fn process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}
