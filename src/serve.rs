//! Runs receive, fetch and sweep together until told to stop.
//!
//! A loop that ends by itself is a defect: then all of it ends with an error, and whoever runs us starts us again. Nothing is
//! green while dead.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::account::Account;
use crate::config::{AccountConfig, ServeConfig};
use crate::db::{self, migration, setting};
use crate::fetch::{FetchSettings, Fetcher};
use crate::listen::listen;
use crate::receive::{Door, DoorSettings, Intake, IntakeSettings, router};
use crate::sweep::Sweeper;
use crate::timed;
use crate::vobiz::{AccountId, Client, HomeCountry, PathStyle, Verifier, http_client};

/// Name of the database on a Postgres of our own.
pub const DATABASE: &str = "vobiz";
/// A lease outlives the longest request by this much: time for its slot and its settling. After a crash, what was in hand
/// falls due again when the leases end, so they are no longer than that.
const LEASE_BEYOND_REQUEST: Duration = Duration::from_secs(15);
/// After the word to stop, callbacks are taken this long: trunk webhooks are not sent again (documented).
const ACCEPT_AFTER_STOP: Duration = Duration::from_secs(5);
/// The loops end within this, and all of the ending within 25 s.
const END_WITHIN: Duration = Duration::from_secs(22);

/// A service that is set up and ready to run.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    intake_pool: PgPool,
    pool: PgPool,
    config: ServeConfig,
    accounts: Vec<Arc<Account>>,
    fetcher: Arc<Fetcher>,
}

/// How patiently a service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Takes callbacks for five more seconds: the ordinary way.
    Patient,
    /// Ends as soon as what is in hand is finished: where nobody calls any more.
    AtOnce,
}

impl Service {
    /// Checks the schema (or migrates), the shared settings and the accounts, and binds the port. `url` is the database.
    pub async fn prepare(config: ServeConfig, url: &str, migrate: bool) -> anyhow::Result<Self> {
        let pool = db::connect(url, "worker", config.concurrency.clamp(4, 8))?;
        if migrate {
            let applied = migration::apply(&pool, Duration::from_secs(300)).await.context("migrations")?;
            if applied > 0 {
                info!(applied, "migrations applied");
            }
        }
        let ids: Vec<AccountId> = config.accounts.iter().map(|a| a.credentials.account_id.clone()).collect();
        let (home, casings) = {
            let mut connection =
                pool.acquire().await.context("Postgres: is DATABASE_URL right, and does it run?")?;
            migration::check(&mut connection).await?;
            db::check_server(&mut connection).await?;
            db::partition::ensure(&mut connection).await.context("partitions")?;
            let home = setting::check(
                &mut connection,
                config.billing_zone.as_deref(),
                config.home_country.map(|code| code.to_string()).as_deref(),
            )
            .await?;
            db::account::register(&mut connection, &ids).await?;
            for (account, calls) in db::account::owed_elsewhere(&mut connection, &ids).await? {
                warn!(
                    account,
                    calls, "calls are owed for an account that is not configured: nobody fetches them"
                );
            }
            let mut casings = Vec::new();
            for id in &ids {
                casings.push(db::account::api_path(&mut connection, id).await?);
            }
            (HomeCountry::new(&home)?, casings)
        };
        let http = http_client(config.request_timeout)?;
        let accounts: Vec<Arc<Account>> = config
            .accounts
            .iter()
            .zip(casings)
            .map(|(account, casing)| {
                let AccountConfig { mut credentials, max_rps } = account.clone();
                // What worked last is tried first.
                credentials.styles.sort_by_key(|style| PathStyle::as_casing(*style) != casing.as_deref());
                let client = Client::new(http.clone(), config.api_url.clone(), credentials, home);
                Arc::new(Account::new(client, max_rps, pool.clone()))
            })
            .collect();
        let settings = FetchSettings {
            concurrency: config.concurrency,
            lease: config.request_timeout + LEASE_BEYOND_REQUEST,
        };
        let fetcher = Arc::new(Fetcher::new(pool.clone(), accounts.clone(), settings));
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("CDR_LISTEN: {} cannot be listened on", config.listen))?;
        let intake_pool = db::connect(url, "receive", 2)?;
        Ok(Self { listener, intake_pool, pool, config, accounts, fetcher })
    }

    /// Address of the public port.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until `stop`, then ends in order: fetching and sweeping at once, the door a little later, all within 25 s.
    pub async fn run(self, stop: CancellationToken, ending: Ending) -> anyhow::Result<()> {
        let Self { listener, intake_pool, pool, config, accounts, fetcher } = self;
        let address = listener.local_addr()?;
        let (intake, writer) = Intake::new(
            intake_pool.clone(),
            IntakeSettings {
                first_fetch_delay: config.first_fetch_delay,
                max_speculative_per_minute: config.max_speculative_per_minute,
                commit_timeout: Duration::from_millis(2300),
            },
        );
        let door = Door::new(door_settings(&config), intake);
        let sweeper = Sweeper::new(pool.clone(), accounts, config.sweep_interval);

        let (stop_work, stop_door) = (CancellationToken::new(), CancellationToken::new());
        let mut loops = JoinSet::new();
        loops.spawn(named("receive", listen(listener, router(door), stop_door.clone())));
        loops.spawn(named("intake", writer));
        loops.spawn(named("fetch", {
            let stop = stop_work.clone();
            async move { fetcher.run(stop).await }
        }));
        loops.spawn(named("sweep", {
            let stop = stop_work.clone();
            async move { sweeper.run(stop).await }
        }));
        loops.spawn(named("partitions", keep_partitions(pool.clone(), stop_work.clone())));
        info!(%address, accounts = config.accounts.len(), "ready: callbacks at /callbacks/vobiz");

        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = loops.join_next() => {
                let name = ended.unwrap_or("a loop (it panicked)");
                bail!("{name} ended by itself: this is a defect; start the service again");
            }
        }
        info!("stopping: finishing what is in hand");
        stop_work.cancel();
        let finished = tokio::time::timeout(END_WITHIN, async {
            if ending == Ending::Patient {
                tokio::time::sleep(ACCEPT_AFTER_STOP).await;
            }
            stop_door.cancel();
            while loops.join_next().await.is_some() {}
        });
        if finished.await.is_err() {
            warn!("not everything ended in time: what is left falls due again");
        }
        drop(loops);
        let closed = async {
            intake_pool.close().await;
            pool.close().await;
        };
        if tokio::time::timeout(Duration::from_secs(2), closed).await.is_err() {
            warn!("connections to Postgres were still busy at the end");
        }
        info!("stopped");
        Ok(())
    }
}

fn door_settings(config: &ServeConfig) -> DoorSettings {
    let accounts: Vec<AccountId> = config.accounts.iter().map(|a| a.credentials.account_id.clone()).collect();
    let tokens: Vec<_> = config
        .accounts
        .iter()
        .flat_map(|account| {
            let id = &account.credentials.account_id;
            account.credentials.tokens.iter().map(move |token| (id.clone(), token.expose_secret().into()))
        })
        .collect();
    DoorSettings {
        policy: config.policy,
        accounts,
        verifier: Verifier::new(&config.callback_urls, &tokens, &config.callback_secrets),
    }
}

async fn named(name: &'static str, work: impl Future<Output = ()>) -> &'static str {
    work.await;
    name
}

/// Partitions are made months ahead, so a failure here has weeks to be mended.
async fn keep_partitions(pool: PgPool, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
            () = stop.cancelled() => return,
        }
        let ensured = timed!(&pool, Duration::from_secs(30), |connection| db::partition::ensure(connection));
        match ensured.await {
            Ok(0) => {}
            Ok(made) => info!(made, "partitions made"),
            Err(error) => warn!(%error, "partitions could not be made: trying again in an hour"),
        }
    }
}
