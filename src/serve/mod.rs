//! Runs receive, fetch, sweep and ops together until told to stop.
//!
//! A loop that ends by itself is a defect: then all of it ends with an error, and the supervisor starts us again. Nothing is
//! green while dead. The ops port comes first and goes last, so that it can always be asked.
//!
//! [`Service::run_with_reloads`] is the story. The ending, its order and its deadlines, is in `shutdown.rs`.

pub mod port;
mod presence;
mod reload;
mod setup;
mod shutdown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::FutureExt;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::account::{self, Account};
use crate::config::{Part, ServeConfig};
use crate::db::base::session::OpenedSessions;
use crate::db::{self, timed};
use crate::fetch::{FROM_BEGINNING_EVERY, FetchSettings, Fetcher};
use crate::ledger::{self, Ledger};
use crate::ops::{self, Ops, OpsSettings, Phase};
use crate::receive::{COMMIT_WITHIN, Endpoint, GroupCommit, GroupCommitSettings, router};
use crate::sweep::Sweeper;
use crate::vobiz::HomeCountry;
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;
use port::{Limits, listen};
use presence::{Presence, PresentPresence};
use reload::Reloading;
pub use shutdown::Ending;

/// A lease outlives the longest request by this much: time for its slot and for storing its outcome. After a crash, what was in hand
/// falls due again when the leases end, so they are no longer than that.
const LEASE_BEYOND_REQUEST: Duration = Duration::from_secs(15);
/// Between two foldings of the rollup. What is not folded is read as well: more of it makes reports slower, never wrong.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// Rows folded in one transaction.
const FOLD_MOST: i64 = 20_000;
/// A folding that takes longer is broken off.
const FOLD_WITHIN: Duration = Duration::from_secs(30);
const FOLD_STALL_AFTER: Duration = Duration::from_secs(120);
/// Between two polls of Postgres for the ops port.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// A service that is set up and ready to run. Its ops port answers already.
#[derive(Debug)]
pub struct Service {
    public: Option<TcpListener>,
    ops: Arc<Ops>,
    ops_port: OpsPort,
    url: String,
    pool: PgPool,
    config: ServeConfig,
    home: HomeCountry,
    accounts: Vec<Arc<Account>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct OpsPort {
    address: SocketAddr,
    server: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

/// What a running service takes in.
#[derive(Debug)]
pub enum Reload {
    /// Newer settings.
    Settings(Box<ServeConfig>),
    /// A newer database URL alone.
    Database(SecretString),
    /// Newer settings that are wrong, and why: nothing of them is taken in.
    Mistakes(String),
}

/// A loop that ended. If it was told to, all is well.
struct EndedLoop {
    name: &'static str,
    told: CancellationToken,
}

impl Service {
    /// Opens the ops port, checks the schema (or migrates), the shared settings and the accounts, and binds the public port.
    /// `url` is the database.
    pub async fn prepare(config: ServeConfig, url: &str, migrate: bool) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let ops = Ops::new(
            OpsSettings {
                parts: config.parts.iter().map(|part| part.as_str()).collect(),
                warnings: config.warnings(),
                sweep_interval: config.sweep_interval,
                poll_every: POLL_EVERY,
            },
            metrics.clone(),
        );
        let ops_port = open_ops_port(&config, &ops, &metrics)?;
        let opened = OpenedSessions::default();
        let pool = db::connect_noting(url, "worker", config.concurrency.clamp(4, 8), opened.clone())?;
        let prepared = async {
            let home = setup::database(&pool, &config, migrate).await?;
            let accounts = account::open(&pool, &config.vobiz(), home).await?;
            // Before the work begins: what it does is known from its first question on.
            Presence::of(&config).say(&pool).await?;
            Ok((home, accounts))
        };
        let (home, accounts) = setup::naming_blockers(&pool, &opened, Box::pin(prepared)).await?;
        let words = || format!("CDR_LISTEN: {} cannot be listened on", config.listen);
        let receives = config.parts.contains(&Part::Receive);
        let public = receives.then(|| port::bind(config.listen).with_context(words)).transpose()?;
        Ok(Self { public, ops, ops_port, url: url.to_owned(), pool, config, home, accounts, metrics })
    }

    /// Address of the public port; an error for a service that does not receive.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.public
            .as_ref()
            .map_or_else(|| Err(std::io::ErrorKind::NotConnected.into()), TcpListener::local_addr)
    }

    /// Address of the ops port.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_port.address
    }

    /// Runs until `stop`, then ends in order: fetching and sweeping at once, the endpoint a little later, all within 25 s.
    pub async fn run(self, stop: CancellationToken, ending: Ending) -> anyhow::Result<()> {
        let (_nobody, never) = mpsc::channel(1);
        self.run_with_reloads(stop, ending, never).await
    }

    /// The same; accounts, tokens, rates and secrets are those of the newest settings that came in. What else differs in them
    /// needs a restart.
    pub async fn run_with_reloads(
        self,
        stop: CancellationToken,
        ending: Ending,
        mut reloads: mpsc::Receiver<Reload>,
    ) -> anyhow::Result<()> {
        let mut running = self.start()?;
        running.until(&stop, &mut reloads).await?;
        running.end(ending).await;
        Ok(())
    }

    /// Starts the loops.
    fn start(self) -> anyhow::Result<RunningService> {
        let Self { public, ops, ops_port, url, pool, config, home, accounts, metrics } = self;
        let receive_pool = db::connect_service(&url, "receive", 2)?;
        let poll_pool = db::connect_service(&url, "ops", 2)?;
        let (stop_endpoint, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let mut loops = JoinSet::new();

        let address = public.as_ref().map(TcpListener::local_addr).transpose()?;
        let endpoint = public.map(|listener| {
            open_endpoint(listener, &receive_pool, &config, &ops, &metrics, &stop_endpoint, &mut loops)
        });
        let workers = Workers { pool: pool.clone(), metrics: metrics.clone() };
        ops.set_accounts(accounts.clone());
        let stop_workers = workers.start(&config, accounts, &mut loops);
        let presence = PresentPresence::new(Presence::of(&config));
        let said = Arc::clone(&presence).say_on(pool.clone(), &metrics, stop_rest.clone());
        run_loop(&mut loops, "presence", &stop_rest, said);
        run_loop(
            &mut loops,
            "partitions",
            &stop_rest,
            keep_partitions(pool.clone(), metrics.clone(), stop_rest.clone()),
        );
        let heartbeat = metrics.heartbeats.start("rollup", FOLD_STALL_AFTER);
        run_loop(
            &mut loops,
            "rollup",
            &stop_rest,
            fold_rollup(pool.clone(), metrics.clone(), heartbeat, stop_rest.clone()),
        );
        if config.parts.contains(&Part::Sweep) {
            let heartbeat = metrics.heartbeats.start("sums", ledger::SUMS_STALL_AFTER);
            run_loop(
                &mut loops,
                "sums",
                &stop_rest,
                ledger::prove_sums(pool.clone(), metrics.clone(), heartbeat, stop_rest.clone()),
            );
        }
        run_loop(&mut loops, "poll", &stop_rest, Arc::clone(&ops).run(poll_pool.clone(), stop_rest.clone()));
        ops.enter(Phase::Running);
        log_ready(&config, address, ops_port.address);
        Ok(RunningService {
            ops,
            ops_port,
            endpoint,
            workers,
            loops,
            stop_workers,
            stop_endpoint,
            stop_rest,
            home,
            presence,
            reloading: Reloading::new(&metrics),
            url,
            pool,
            receive_pool,
            poll_pool,
        })
    }
}

/// A service at work: its loops, and what stops them.
struct RunningService {
    ops: Arc<Ops>,
    ops_port: OpsPort,
    /// None for a service that does not receive.
    endpoint: Option<Arc<Endpoint>>,
    workers: Workers,
    loops: JoinSet<EndedLoop>,
    stop_workers: CancellationToken,
    stop_endpoint: CancellationToken,
    stop_rest: CancellationToken,
    home: HomeCountry,
    presence: Arc<PresentPresence>,
    reloading: Reloading,
    /// Where the pools lead.
    url: String,
    pool: PgPool,
    receive_pool: PgPool,
    poll_pool: PgPool,
}

impl RunningService {
    /// Goes on until `stop`, taking in the newer settings that come; an error if a loop ends by itself.
    async fn until(
        &mut self,
        stop: &CancellationToken,
        reloads: &mut mpsc::Receiver<Reload>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(ended) = self.loops.join_next() => match ended {
                    Ok(EndedLoop { told, .. }) if told.is_cancelled() => {}
                    Ok(EndedLoop { name, .. }) => bail!("{name} ended by itself: this is a defect; start the service again"),
                    Err(error) => bail!("a loop broke off ({error}): this is a defect; start the service again"),
                },
                _ = &mut self.ops_port.server => bail!("the ops port ended by itself: this is a defect; start the service again"),
                Some(newer) = reloads.recv() => tokio::select! {
                    () = self.take_in(newer) => {}
                    () = stop.cancelled() => return Ok(()),
                },
                () = self.reloading.due() => tokio::select! {
                    () = self.take_in_rest() => {}
                    () = stop.cancelled() => return Ok(()),
                },
            }
        }
    }
}

/// Starts what fetches, sweeps and checks days. These workers live from one reload to the next.
struct Workers {
    pool: PgPool,
    metrics: Metrics,
}

impl Workers {
    /// Starts workers for these accounts; the token stops them.
    fn start(
        &self,
        config: &ServeConfig,
        accounts: Vec<Arc<Account>>,
        loops: &mut JoinSet<EndedLoop>,
    ) -> CancellationToken {
        let stop = CancellationToken::new();
        if config.parts.contains(&Part::Fetch) {
            let settings = FetchSettings {
                concurrency: config.concurrency,
                lease: config.request_timeout + LEASE_BEYOND_REQUEST,
                from_beginning_every: FROM_BEGINNING_EVERY,
            };
            let fetcher = Fetcher::new(self.pool.clone(), accounts.clone(), settings, self.metrics.clone());
            let told = stop.clone();
            run_loop(loops, "fetch", &stop, async move { fetcher.run(told).await });
        }
        if config.parts.contains(&Part::Sweep) {
            let sweeper = Sweeper::new(
                self.pool.clone(),
                accounts.clone(),
                config.sweep_interval,
                self.metrics.clone(),
            );
            let told = stop.clone();
            run_loop(loops, "sweep", &stop, async move { sweeper.run(told).await });
            let ledger =
                Ledger::new(self.pool.clone(), accounts, config.sweep_interval, self.metrics.clone());
            let told = stop.clone();
            run_loop(loops, "ledger", &stop, async move { ledger.run(told).await });
        }
        stop
    }
}

fn run_loop(
    loops: &mut JoinSet<EndedLoop>,
    name: &'static str,
    told: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let told = told.clone();
    loops.spawn(async move {
        work.await;
        EndedLoop { name, told }
    });
}

fn open_ops_port(config: &ServeConfig, ops: &Arc<Ops>, metrics: &Metrics) -> anyhow::Result<OpsPort> {
    let listener = port::bind(config.ops_listen)
        .with_context(|| format!("CDR_OPS_LISTEN: {} cannot be listened on", config.ops_listen))?;
    let (address, stop) = (listener.local_addr()?, CancellationToken::new());
    let heartbeat = metrics.heartbeats.start("ops port", Duration::from_secs(60));
    let server = tokio::spawn(listen(
        listener,
        ops::router(Arc::clone(ops)),
        port::OPS,
        metrics.clone(),
        heartbeat,
        stop.clone(),
    ));
    Ok(OpsPort { address, server: AbortOnDropHandle::new(server), stop })
}

fn open_endpoint(
    listener: TcpListener,
    pool: &PgPool,
    config: &ServeConfig,
    ops: &Arc<Ops>,
    metrics: &Metrics,
    stop: &CancellationToken,
    loops: &mut JoinSet<EndedLoop>,
) -> Arc<Endpoint> {
    let settings = GroupCommitSettings {
        first_fetch_delay: config.first_fetch_delay,
        max_speculative_per_minute: config.max_speculative_per_minute,
        max_by_secret_per_minute: config.max_by_secret_per_minute,
        commit_timeout: COMMIT_WITHIN,
    };
    let (group_commit, writer) = GroupCommit::new(pool.clone(), settings, metrics);
    let probed = group_commit.clone();
    ops.set_probe(Some(Box::new(move || {
        let group_commit = probed.clone();
        async move { group_commit.probe().await.map_err(|error| error.to_string()) }.boxed()
    })));
    let endpoint = Endpoint::new(setup::endpoint(config), group_commit, metrics.clone());
    let heartbeat = metrics.heartbeats.start(ops::PORT, Duration::from_secs(60));
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limits = Limits { per_address: config.connections_per_address, ..port::PUBLIC };
    let limits = limits.within_open_files(open_files);
    let serving =
        listen(listener, router(Arc::clone(&endpoint)), limits, metrics.clone(), heartbeat, stop.clone());
    run_loop(loops, "receive", stop, serving);
    run_loop(loops, "group_commit", stop, writer);
    endpoint
}

fn log_ready(config: &ServeConfig, public: Option<SocketAddr>, ops: SocketAddr) {
    let accounts = config.accounts.len();
    if let Some(address) = public {
        info!(%address, %ops, accounts, "ready: callbacks at /callbacks/vobiz");
    } else {
        let parts: Vec<&str> = config.parts.iter().map(|part| part.as_str()).collect();
        info!(%ops, accounts, parts = parts.join(","), "ready");
    }
}

/// Partitions are made months ahead, so a failure here has weeks to be mended.
async fn keep_partitions(pool: PgPool, metrics: Metrics, stop: CancellationToken) {
    let condition = metrics.condition_until_mended(
        "partitions of the coming months cannot be made",
        "it is tried again every hour, and there is time; `vobiz-cdr migrate apply` makes them, and says why not (a lock, a missing \
         permission)",
    );
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
            () = stop.cancelled() => return,
        }
        let ensured =
            timed!(&pool, Duration::from_secs(30), |connection| db::base::partition::ensure(connection));
        match ensured.await {
            Ok(made) => {
                condition.clear();
                if made > 0 {
                    info!(made, "partitions made");
                }
            }
            // That Postgres is away is said by those who suffer from it.
            Err(error) if error.refuses_rows() || matches!(error, db::DbError::TimedOut(_)) => {
                condition.raise_for(&error.cause(), error.cure());
            }
            Err(_) => {}
        }
    }
}

/// Folds what the triggers noted, so that reports have less to add up. Every replica tries; one does it.
async fn fold_rollup(pool: PgPool, metrics: Metrics, heartbeat: Arc<Heartbeat>, stop: CancellationToken) {
    let condition = metrics.condition(
        "the rollup cannot be folded, so reports become slower; they stay right",
        "it is tried again; the error says whose turn it is",
    );
    while !stop.is_cancelled() {
        heartbeat.beat();
        let folded =
            timed!(&pool, FOLD_WITHIN, |connection| db::bill::rollup::fold(connection, FOLD_MOST)).await;
        match folded {
            Ok(folded) => {
                condition.clear();
                if folded == FOLD_MOST.unsigned_abs() {
                    continue;
                }
            }
            // That Postgres is away is said by those who suffer from it.
            Err(error) if error.refuses_rows() || matches!(error, db::DbError::TimedOut(_)) => {
                condition.raise_for(&error.cause(), error.cure());
            }
            Err(_) => {}
        }
        heartbeat.idle();
        tokio::select! {
            () = tokio::time::sleep(FOLD_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
