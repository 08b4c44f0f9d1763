//! A pooler that is switched over under a running service. At a start sessions are checked ([`session::check_pooling`]); here that is
//! done again, every now and then and at each suspicion, and what was found rules until it is found otherwise: on sessions that are
//! mixed nothing is done, since a prepared statement of one name may be another one's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::sync::Notify;
use tracing::{error, info};

use super::distrust::distrust_open_connections;
use super::session::{self, SessionRefused, SessionUser};

/// Two sessions and a few words on each.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// Where sessions are mixed, as host, port and name of the database.
static MIXED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// There is such a place: asked before each piece of work.
static ANY: AtomicBool = AtomicBool::new(false);
static SUSPECTED: Notify = Notify::const_new();

fn place(options: &PgConnectOptions) -> String {
    let host = options
        .get_socket()
        .map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
    format!("{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default())
}

/// Refuses to work where sessions are mixed.
pub(super) fn check(pool: &PgPool) -> Result<(), sqlx::Error> {
    if ANY.load(Ordering::Relaxed)
        && MIXED.lock().unwrap_or_else(PoisonError::into_inner).contains(&place(&pool.connect_options()))
    {
        return Err(sqlx::Error::Configuration(Box::new(SessionRefused::Shared)));
    }
    Ok(())
}

/// A session was not what it was: whoever looks after that looks at once.
pub fn suspect() {
    SUSPECTED.notify_one();
}

/// Waits until there is a suspicion.
pub async fn suspected() {
    SUSPECTED.notified().await;
}

/// Looks whether sessions are mixed where a pool of the service leads to, and keeps that in mind. A Postgres that is away, or has no room for
/// one more session, says nothing about it.
pub async fn look(pool: &PgPool) {
    let looked =
        tokio::time::timeout(LOOKED_WITHIN, session::check_pooling(pool, SessionUser::Service)).await;
    let found = match looked {
        Ok(Ok(())) => None,
        Ok(Err(sqlx::Error::Configuration(why)))
            if matches!(why.downcast_ref(), Some(SessionRefused::Shared)) =>
        {
            Some(why)
        }
        _ => return,
    };
    let place = place(&pool.connect_options());
    let mut mixed = MIXED.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = if found.is_some() { mixed.insert(place) } else { mixed.remove(&place) };
    ANY.store(!mixed.is_empty(), Ordering::Relaxed);
    drop(mixed);
    if changed {
        // What was asked for in them, and prepared, is no longer theirs alone.
        distrust_open_connections();
        if let Some(why) = found {
            error!("nothing is done on Postgres until that is over: {why}");
        } else {
            info!("sessions of Postgres are no longer mixed: the work goes on");
        }
    }
}
