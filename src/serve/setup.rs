//! What comes before the work: the database as it must be, and the settings turned into accounts and an endpoint.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use sqlx::error::DatabaseError;
use sqlx::{PgConnection, PgPool};
use tokio::time::error::Elapsed;
use tracing::{debug, info, warn};

use super::presence::{Presence, PresentPresence};
use crate::account::{self, Account};
use crate::config::ServeConfig;
use crate::db::account::Replica;
use crate::db::base::migration::SchemaError;
use crate::db::base::session::OpenedSessions;
use crate::db::base::{blocker, migration, setting};
use crate::db::retirement::{self, TakenUp};
use crate::db::{self, DbError, timed};
use crate::receive::EndpointSettings;
use crate::vobiz::{AccountId, HomeCountry, Verifier};

/// Two short statements, at the end of a process.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// A few short statements.
const TIMEOUT: Duration = Duration::from_secs(10);
/// All checks of the database, the making of partitions included.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks who holds what a start waits for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who held a lock, what to do about it, and when it was seen last.
type SeenBlocker = Mutex<Option<(String, String, Instant)>>;

/// What a start does on the database: who holds a lock that it waits for is logged, and named where it fails by that. Of what other
/// processes wait for it says nothing.
pub(super) async fn naming_blockers<T>(
    pool: &PgPool,
    opened: &OpenedSessions,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let seen = SeenBlocker::default();
    let done = tokio::select! {
        biased;
        done = work => done,
        never = look(pool, opened, &seen) => match never {},
    };
    match seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((who, cure, at))
            if at.elapsed() < 3 * LOOK_EVERY && done.as_ref().is_err_and(may_be_of_a_lock) =>
        {
            done.with_context(|| format!("the start waited for a lock that {who} holds: {cure}"))
        }
        _ => done,
    }
}

/// Whether a lock that was waited for may be the reason of a failure.
fn may_be_of_a_lock(error: &anyhow::Error) -> bool {
    // lock_not_available, query_canceled
    let has_ended = |error: &sqlx::Error| {
        let code = error.as_database_error().and_then(DatabaseError::code);
        matches!(code.as_deref(), Some("55P03" | "57014"))
    };
    error.chain().any(|cause| {
        let of_db = cause.downcast_ref().is_some_and(|error| match error {
            DbError::Sql(error) => has_ended(error),
            DbError::TimedOut(_) => true,
            DbError::ClockBehind(_) => false,
        });
        let of_schema = cause.downcast_ref().is_some_and(|error| match error {
            SchemaError::Sql(error) | SchemaError::Text { source: error, .. } => has_ended(error),
            SchemaError::Locked(..) => true,
            _ => false,
        });
        of_db || of_schema || cause.downcast_ref().is_some_and(has_ended) || cause.is::<Elapsed>()
    })
}

async fn look(pool: &PgPool, opened: &OpenedSessions, seen: &SeenBlocker) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let ours = opened.processes();
        let found = timed!(pool, TIMEOUT, |connection| blocker::blockers(connection, Some(&ours))).await;
        let Some(first) = found.ok().and_then(|blockers| blockers.into_iter().next()) else { continue };
        let (who, cure) = (first.to_string(), first.cure());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|(known, _, _)| *known != who) {
            warn!("the start waits for a lock that {who} holds: {cure}");
        }
        *seen = Some((who, cure, Instant::now()));
    }
}

/// Migrates if it is to, and checks that schema, server and shared settings are what they must be; makes the partitions.
pub(super) async fn database(
    pool: &PgPool,
    config: &ServeConfig,
    migrate: bool,
) -> anyhow::Result<HomeCountry> {
    drop(db::open(pool).await?);
    if migrate {
        let applied = migration::apply(pool, Duration::from_secs(300)).await.context("migrations")?;
        if applied > 0 {
            info!(applied, "migrations applied");
        }
    }
    // A process that hangs here for ever serves nobody; one that ends with an error is started again.
    let checked = tokio::time::timeout(CHECKED_WITHIN, check(pool, config)).await;
    checked.context("Postgres does not answer any more")?
}

async fn check(pool: &PgPool, config: &ServeConfig) -> anyhow::Result<HomeCountry> {
    let mut connection = db::open(pool).await?;
    migration::check(&mut connection).await?;
    db::check_server(&mut connection).await?;
    db::base::partition::ensure(&mut connection).await.context("partitions")?;
    let home = setting::check(
        &mut connection,
        config.billing_zone.as_deref(),
        config.home_country.map(|code| code.to_string()).as_deref(),
    )
    .await?;
    let ids = ids(config);
    take_up(&mut connection, &ids).await?;
    for (account, calls) in db::queue::owed_elsewhere(&mut connection, &ids).await? {
        warn!(account, calls, "calls are owed for an account that is not configured: nobody fetches them");
    }
    Ok(HomeCountry::new(&home)?)
}

/// Takes up accounts again that were retired: what a service works for is promised. Returns which, in words.
pub(super) async fn take_up(
    connection: &mut PgConnection,
    ids: &[AccountId],
) -> Result<Vec<String>, sqlx::Error> {
    let mut words = Vec::new();
    for TakenUp { account_id, retired_at } in retirement::take_up(connection, ids).await? {
        words.push(format!("{account_id}, which was retired at {retired_at}"));
        warn!(
            account = account_id,
            %retired_at,
            "this account was retired, and is configured again: the promise for it goes on, and every day since is compared"
        );
    }
    Ok(words)
}

/// Goes over to a newer database URL, if it is another one and works: a password that was changed, another host. Returns
/// whether it did.
pub(super) async fn database_anew(
    pools: [&PgPool; 3],
    url: &mut String,
    newer: &SecretString,
) -> anyhow::Result<bool> {
    let newer = newer.expose_secret();
    if newer == url.as_str() {
        return Ok(false);
    }
    // On a pool of its own first: what does not work must not replace what may.
    let tried = db::connect_service(newer, "reload", 1)?;
    let checked = async {
        let mut connection = db::open(&tried).await?;
        migration::check(&mut connection).await?;
        db::check_server(&mut connection).await
    };
    let checked = tokio::time::timeout(CHECKED_WITHIN, checked).await;
    tried.close().await;
    checked.context("Postgres does not answer")??;
    for pool in pools {
        db::move_to(pool, newer)?;
    }
    // What is open leads to the old place, or has the old rights.
    db::distrust_open_connections();
    newer.clone_into(url);
    Ok(true)
}

/// The accounts of newer settings. What was denied with the old credentials is tried at once with the new ones, and what the old ones
/// still have in hand pauses nothing any more.
pub(super) async fn accounts_anew(
    pool: &PgPool,
    config: &ServeConfig,
    home: HomeCountry,
    presence: &PresentPresence,
    old: &[Arc<Account>],
) -> anyhow::Result<Vec<Arc<Account>>> {
    let accounts = account::open(pool, &config.vobiz(), home).await?;
    let ids = ids(config);
    timed!(pool, TIMEOUT, |connection| take_up(connection, &ids)).await?;
    let before = presence.change(Presence::of(config), pool).await?;
    // Before the pauses are looked at: one that was written down a moment later would stay.
    join_all(old.iter().map(|account| account.set_superseded(true))).await;
    let probed =
        timed!(pool, TIMEOUT, |connection| db::account::probe_soon(connection, &ids, &Replica::this()));
    if let Err(error) = probed.await {
        // They work on.
        presence.change_back(before).await;
        join_all(old.iter().map(|account| account.set_superseded(false))).await;
        return Err(error.into());
    }
    Ok(accounts)
}

/// Takes back what this process has said of its accounts. Where that fails, it counts no more after a few minutes either.
pub(super) async fn leave(pool: &PgPool) {
    let left = timed!(pool, LEAVE_WITHIN, |connection| db::account::leave(connection, &Replica::this()));
    if let Err(error) = left.await {
        debug!(%error, "the row of this process could not be taken back");
    }
}

/// What callbacks are checked by.
pub(super) fn endpoint(config: &ServeConfig) -> EndpointSettings {
    let tokens: Vec<_> = config
        .accounts
        .iter()
        .flat_map(|account| {
            let id = &account.credentials.account_id;
            account.credentials.tokens.iter().map(move |token| (id.clone(), token.expose_secret().into()))
        })
        .collect();
    let secrets: Vec<_> = config
        .accounts
        .iter()
        .flat_map(|account| {
            let id = &account.credentials.account_id;
            account.callback_secrets.iter().map(move |secret| (id.clone(), secret.clone()))
        })
        .collect();
    EndpointSettings {
        policy: config.policy,
        accounts: ids(config),
        urls: config.callback_urls.clone(),
        verifier: Verifier::new(&config.callback_urls, &tokens, &config.callback_secrets)
            .with_account_secrets(&secrets),
    }
}

pub(super) fn ids(config: &ServeConfig) -> Vec<AccountId> {
    config.accounts.iter().map(|account| account.credentials.account_id.clone()).collect()
}
