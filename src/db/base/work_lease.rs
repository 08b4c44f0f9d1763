//! Work that one process does at a time: a lease on it, in a row.
//!
//! A lock of a session would do, but anybody who may connect can take one and keep it, and a host that vanished behind a pooler keeps its
//! own for hours. A lease ends by itself unless it is renewed, and at once where the session that took it is gone. Its `fence` grows with
//! each taker: a writing transaction asks for it ([`WorkLease::fence`]), so a holder that lost its lease without noticing writes nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::connection::DbError;
use super::pooling;
use super::time::interval;
use crate::timed;

/// A lease that is not renewed ends after this. Longer than any transaction of its holder (a comparison may take two minutes), so that
/// nobody takes it while one commits.
pub const LENGTH: Duration = Duration::from_secs(150);
/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// A renewal is a statement by key.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);
/// The server notices within this time that a session has ended.
const FREE_WITHIN: Duration = Duration::from_secs(2);

/// The lease is somebody else's by now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lease on `{0}` was lost to another process: what was under way is left to it")]
pub struct LostLease(String);

impl From<LostLease> for sqlx::Error {
    fn from(lost: LostLease) -> Self {
        Self::Configuration(Box::new(lost))
    }
}

/// Whether a failure is that of a lost lease.
pub fn is_lost(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Configuration(why) if why.is::<LostLease>())
}

/// A lease on a piece of work, held by the session that took it.
#[derive(Debug)]
pub struct WorkLease {
    name: String,
    fence: i64,
    /// From then on nobody renews it, and its end is no loss.
    given_back: AtomicBool,
}

impl WorkLease {
    /// Takes the lease on a piece of work for the life of a connection; none if another session has it. That it has ended, or that the
    /// session is gone, frees it; so does an end further away than twice the length of a lease, which a clock wrote that was ahead. (A little
    /// ahead it may well have been: a clock that is set right robs nobody who works.)
    pub async fn take(connection: &mut PgConnection, name: &str) -> Result<Option<Self>, sqlx::Error> {
        // Where there is a row, no insert: it would wait for a transaction of the holder, only to find that out.
        sqlx::query!(
            "insert into vobiz.work_lease (name)
             select $1 where not exists (select from vobiz.work_lease where name = $1) on conflict (name) do nothing",
            name
        )
            .execute(&mut *connection)
            .await?;
        let fence = sqlx::query_scalar!(
            "update vobiz.work_lease l
             set fence = l.fence + 1, pid = pg_backend_pid(), taken_at = vobiz.now(), expires_at = vobiz.now() + $2,
                 session_began_at = (select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid()),
                 holder = concat_ws(' ', session_user, current_setting('application_name'), host(inet_client_addr()))
             where l.name in (
               select w.name from vobiz.work_lease w
               where w.name = $1
                 and (w.holder is null or w.expires_at <= vobiz.now() or w.expires_at > vobiz.now() + 2 * $2::interval
                      -- Of the sessions of others a user may see no more than that they are there.
                      or not exists (select from pg_stat_activity a
                                     where a.pid = w.pid and coalesce(a.backend_start, w.session_began_at) = w.session_began_at))
               -- A holder that is about to commit has it locked, and keeps it.
               for update skip locked)
             returning l.fence",
            name,
            interval(LENGTH) as _
        )
        .fetch_optional(connection)
        .await?;
        Ok(fence.map(|fence| Self { name: name.to_owned(), fence, given_back: AtomicBool::new(false) }))
    }

    /// The same, waiting a little: a session that has just ended may hold it for a moment more.
    pub async fn take_soon(connection: &mut PgConnection, name: &str) -> Result<Option<Self>, sqlx::Error> {
        let asked = Instant::now();
        loop {
            let taken = Self::take(&mut *connection, name).await?;
            if taken.is_some() || asked.elapsed() > FREE_WITHIN {
                return Ok(taken);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// To be called first in a transaction that writes what only the holder may: fails if the lease is lost; else nobody takes it until
    /// the transaction ends, and it is renewed.
    pub async fn fence(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        let held = sqlx::query!(
            "update vobiz.work_lease set expires_at = vobiz.now() + $3 where name = $1 and fence = $2 and holder is not null",
            self.name,
            self.fence,
            interval(LENGTH) as _
        )
        .execute(transaction)
        .await?;
        if held.rows_affected() == 1 { Ok(()) } else { Err(LostLease(self.name.clone()).into()) }
    }

    /// Renews it; false if it is lost. Does not wait for a transaction of the holder's own, which renews it too.
    async fn renew(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar!(
            r#"with mine as (
                 select name from vobiz.work_lease
                 where name = $1 and fence = $2 and holder is not null for update skip locked
               ), renewed as (
                 update vobiz.work_lease l set expires_at = vobiz.now() + $3 from mine where l.name = mine.name
               )
               select exists (select from vobiz.work_lease where name = $1 and fence = $2 and holder is not null) as "held!""#,
            self.name,
            self.fence,
            interval(LENGTH) as _
        )
        .fetch_one(connection)
        .await
    }

    /// Does a piece of work for as long as the lease is held: it is renewed meanwhile, and work whose lease is lost is broken off.
    pub async fn hold<T, E: From<sqlx::Error>>(
        &self,
        pool: &PgPool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        Self::hold_all(std::slice::from_ref(self), pool, work).await
    }

    /// The same with several leases.
    pub async fn hold_all<T, E: From<sqlx::Error>>(
        leases: &[Self],
        pool: &PgPool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            lost = renew_until_lost(leases, pool) => Err(sqlx::Error::from(lost).into()),
        }
    }

    /// Gives it back, so that the next one may begin at once.
    pub async fn give_back(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.given_back.store(true, Ordering::Relaxed);
        sqlx::query!(
            "update vobiz.work_lease set holder = null, pid = null, session_began_at = null, taken_at = null, expires_at = null
             where name = $1 and fence = $2",
            self.name,
            self.fence
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Renews leases again and again; returns once one is lost. A Postgres that is away takes them from nobody.
async fn renew_until_lost(leases: &[WorkLease], pool: &PgPool) -> LostLease {
    loop {
        sleep(RENEW_EVERY).await;
        for lease in leases.iter().filter(|lease| !lease.given_back.load(Ordering::Relaxed)) {
            match timed!(pool, RENEWED_WITHIN, |connection| lease.renew(connection)).await {
                Ok(true) => {}
                Ok(false) if lease.given_back.load(Ordering::Relaxed) => {}
                Ok(false) => return LostLease(lease.name.clone()),
                Err::<bool, DbError>(error) => {
                    debug!(name = lease.name, %error, "a lease could not be renewed");
                }
            }
        }
    }
}

/// Sessions of leases that a process has at most of one database, however many accounts it works for: whoever sizes `max_connections` or a
/// pooler must be able to count on it, and callbacks must not wait for a connection that a sweep has.
pub const MOST_SESSIONS: usize = 4;
/// Those of long work; the rest is for sweeps, so that a night of proofs puts no lost callback off.
const MOST_LONG: usize = MOST_SESSIONS - 1;

/// What a session of a lease is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeasedWork {
    /// A sweep.
    Sweep,
    /// What may take long, and can wait: a drain, the check of a day, the proof of the sums.
    Long,
}

/// The places of one database.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Places {
    /// Those of the database that a pool leads to.
    fn of(pool: &PgPool) -> Arc<Self> {
        static OF: LazyLock<Mutex<HashMap<String, Arc<Places>>>> = LazyLock::new(Mutex::default);
        let options = pool.connect_options();
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let name =
            format!("{} {:?} {} {database}", options.get_host(), options.get_socket(), options.get_port());
        let mut of = OF.lock().unwrap_or_else(PoisonError::into_inner);
        let places = of.entry(name).or_insert_with(|| {
            Arc::new(Self {
                all: Arc::new(Semaphore::new(MOST_SESSIONS)),
                long: Arc::new(Semaphore::new(MOST_LONG)),
            })
        });
        Arc::clone(places)
    }

    /// A place, if one is free. Nobody waits for one: a piece of work that holds a lease may need another.
    fn take(&self, work: LeasedWork) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut taken = Vec::new();
        if work == LeasedWork::Long {
            taken.push(Arc::clone(&self.long).try_acquire_owned().ok()?);
        }
        taken.push(Arc::clone(&self.all).try_acquire_owned().ok()?);
        Some(taken)
    }
}

/// A session outside the pool that shows, by being there, that the holder of its leases lives; what only the holder may write goes
/// through it.
#[derive(Debug)]
pub struct LeaseSession {
    connection: PgConnection,
    /// Given back when the connection is closed.
    _place: Vec<OwnedSemaphorePermit>,
}

impl LeaseSession {
    /// Takes a connection out of the pool; none if this process has as many of them as it may: then the work is tried again later, as
    /// it is where another process is at it.
    pub async fn open(pool: &PgPool, work: LeasedWork) -> Result<Option<Self>, sqlx::Error> {
        pooling::check(pool)?;
        let Some(place) = Places::of(pool).take(work) else { return Ok(None) };
        Ok(Some(Self { connection: pool.acquire().await?.detach(), _place: place }))
    }

    /// That of a command for as long as it runs, beside those of the work it does.
    pub async fn of_command(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: pool.acquire().await?.detach(), _place: Vec::new() })
    }

    /// Its connection.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives leases back and ends the session. What fails here frees itself.
    pub async fn close(mut self, leases: impl IntoIterator<Item = WorkLease>) {
        let closed = tokio::time::timeout(RENEWED_WITHIN, async {
            for lease in leases {
                lease.give_back(&mut self.connection).await?;
            }
            self.connection.close().await
        });
        if !matches!(closed.await, Ok(Ok(()))) {
            debug!("the session of a lease did not end well");
        }
    }
}

/// Does a piece of work in a transaction that only the holder of a lease may commit: `fenced!(lease, connection, |transaction| future)`
/// is a future of the inner future's result, an `sqlx::Error` where it fails.
macro_rules! fenced {
    ($lease:expr, $connection:expr, |$transaction:ident| $work:expr) => {
        async {
            let mut begun = sqlx::Connection::begin(&mut *$connection).await?;
            $lease.fence(&mut begun).await?;
            let done = {
                let $transaction = &mut *begun;
                $work.await?
            };
            begun.commit().await?;
            Ok::<_, sqlx::Error>(done)
        }
    };
}
pub(crate) use fenced;
