//! The world of the week: a Postgres of its own, the built program, a simulated Vobiz with two accounts, and one clock for all of
//! them, which stands at the full hours.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use vobiz_cdr::db;
use vobiz_cdr::db::base::migration;
use vobiz_cdr::postgres::{Postgres as Server, PostgresOptions as ServerOptions};
use vobiz_cdr::simulator::{
    Answer, Call, CallSpec, Faults, SimulatedAccount, Simulator, SimulatorOptions, TrafficProgress,
};

use crate::support::database::Database;
use crate::support::process::{Serve, free_port};
use crate::support::wait::{LIMIT, until, until_some};
use crate::support::world::{advance, pool};

const SIGNED_FOR: &str = "https://calls.example.com/vobiz/hangup";
/// The two accounts: id, token, and the seconds between the ends of two of its calls.
const ACCOUNTS: [(&str, &str, i64); 2] =
    [("MA_TESTAB12", "tok_main_7f3c1a9e5b2d4860", 45), ("MA_SECOND99", "tok_second_5b0d", 90)];
/// Every so many calls there is one whose CDR is late.
const LATE_EVERY: u64 = 97;
/// So much after its callback it appears: two full hours later it is there.
pub(super) const LATE_BY: Duration = Duration::from_secs(5400);

pub(super) struct World {
    folder: TempDir,
    /// None while it is away.
    server: Option<Server>,
    pub(super) database: Database,
    pub(super) vobiz: Simulator,
    serve: Option<Serve>,
    port: u16,
    pub(super) progress: Arc<TrafficProgress>,
    /// The first hour.
    pub(super) start: DateTime<Utc>,
    /// How many hours of calls there were.
    pub(super) hour: i64,
    /// How many hours there were beside them, in which nobody called.
    idle: i64,
    /// The hour in which a call was announced, or would have been.
    pub(super) announced_in: HashMap<String, i64>,
    /// Calls whose first fetch comes too early.
    pub(super) late: Vec<String>,
}

impl World {
    /// All is set up, and the clock stands at the beginning of a day in UTC.
    pub(super) async fn begin() -> Self {
        let folder = tempfile::Builder::new().prefix("vobiz-cdr-week.").tempdir().unwrap();
        let server = start_server(&folder).await;
        let url = server.url("vobiz");
        db::create_database(&url, "vobiz").await.unwrap();
        let database = Database { pool: pool(&url), url };
        migration::apply(&database.pool, LIMIT).await.unwrap();

        let faults = Faults {
            lost_callback: 0.03,
            duplicated_callback: 0.05,
            revised_later: 0.02,
            revised_after: Duration::from_secs(24 * 3600),
            ..Faults::default()
        };
        let vobiz = Simulator::start(SimulatorOptions {
            accounts: ACCOUNTS.iter().map(|(id, token, _)| SimulatedAccount::new(id, token)).collect(),
            callback_url: Some(SIGNED_FOR.into()),
            callback_backoff: Duration::from_millis(250),
            cdr_delay: Duration::from_secs(20),
            faults,
            ..SimulatorOptions::default()
        })
        .await
        .unwrap();
        let port = free_port();
        vobiz.set_callback_sent_to(&format!("http://127.0.0.1:{port}/callbacks/vobiz"));

        let tomorrow = vobiz.now().date_naive().succ_opt().unwrap();
        let mut world = Self {
            folder,
            server: Some(server),
            database,
            vobiz,
            serve: None,
            port,
            progress: Arc::default(),
            start: tomorrow.and_time(chrono::NaiveTime::MIN).and_utc(),
            hour: 0,
            idle: 0,
            announced_in: HashMap::new(),
            late: Vec::new(),
        };
        world.move_to(world.start).await;
        world.start_serve().await;
        world
    }

    /// The end of the hours so far.
    fn mark(&self) -> DateTime<Utc> {
        self.start + TimeDelta::hours(self.hour + self.idle)
    }

    /// Moves all clocks on to an instant.
    pub(super) async fn move_to(&self, instant: DateTime<Utc>) {
        advance(&self.database, &self.vobiz, instant - self.vobiz.now()).await;
    }

    /// Moves all clocks an hour on, and announces the calls that ended in it, as Vobiz does, while the calls that were announced
    /// an hour ago are fetched.
    pub(super) async fn live_an_hour(&mut self) -> JoinHandle<()> {
        let from = self.mark();
        self.hour += 1;
        self.move_to(self.mark()).await;
        let mut calls: Vec<Call> = Vec::new();
        for (account, _, every) in ACCOUNTS {
            let ends = (0..3600 / every).map(|n| n * every);
            calls.extend(ends.map(|second| self.place(account, from, second)));
        }
        let (vobiz, progress) = (self.vobiz.clone(), Arc::clone(&self.progress));
        tokio::spawn(async move {
            let each = stream::iter(&calls);
            each.for_each_concurrent(16, |call| async { vobiz.announce(call, &progress).await }).await;
        })
    }

    /// Places the call that ends at this second of an hour. Around the full and the half hour, which are the midnights of UTC and
    /// of India, calls start at the very second and at the one before it.
    fn place(&mut self, account: &str, hour: DateTime<Utc>, second: i64) -> Call {
        let ends_at = hour + TimeDelta::seconds(second);
        let half = hour + TimeDelta::seconds(second / 1800 * 1800);
        let starts_at = match second % 1800 {
            90 => Some(half),
            180 => Some(half - TimeDelta::seconds(1)),
            _ => None,
        };
        let spec = CallSpec { account: Some(account.to_owned()), ..CallSpec::default() };
        let spec = match starts_at {
            Some(at) => CallSpec {
                started_at: Some(at),
                answered_at: Some(at + TimeDelta::seconds(5)),
                ended_at: Some(at + TimeDelta::seconds(35)),
                ring_time: Some(5),
                billsec: Some(30),
                ..spec
            },
            None => CallSpec { ended_at: Some(ends_at), ..spec },
        };
        let late = (self.announced_in.len() as u64 + 1).is_multiple_of(LATE_EVERY);
        let call = self.vobiz.place_call(CallSpec { appears_after: late.then_some(LATE_BY), ..spec });
        self.announced_in.insert(call.call_id.clone(), self.hour);
        if late {
            self.late.push(call.call_id.clone());
        }
        call
    }

    /// Waits until no call is due, and none that is fetched for the first time is in hand. Calls of paused accounts do not count
    /// where there may be any.
    pub(super) async fn settle(&self, in_hand: bool, paused: bool) {
        let sql = "select (select count(*) from vobiz.account where pause_reason is not null and not $2)
                        + (select count(*) from vobiz.cdr_queue q join vobiz.account a using (account_id)
                           where q.dead_at is null and a.pause_reason is null
                             and (q.due_at <= vobiz.now() or ($1 and q.lease_id is not null and q.failures = 0)))";
        until_some(&format!("hour {}: nothing is due", self.hour), async || {
            let left = sqlx::query_scalar::<_, i64>(sql).bind(in_hand).bind(paused);
            match left.fetch_one(&self.database.pool).await {
                Ok(0) => Ok(()),
                left => Err(left),
            }
        })
        .await;
    }

    /// The API answers like a load balancer with nothing behind it, or works again.
    pub(super) fn set_outage(&self, on: bool) {
        for (account, _, _) in ACCOUNTS {
            self.vobiz.script_account(account, on.then_some(Answer::Html));
        }
    }

    /// kill -9 and a new start.
    pub(super) async fn kill_serve(&mut self) {
        self.serve.as_mut().unwrap().kill();
        self.start_serve().await;
    }

    /// SIGTERM, a good end and a new start.
    pub(super) async fn restart_serve(&mut self) {
        self.end_serve().await;
        self.start_serve().await;
    }

    /// Postgres goes away for a moment.
    pub(super) async fn restart_postgres(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let server = start_server(&self.folder).await;
        assert_eq!(server.url("vobiz"), self.database.url);
        self.server = Some(server);
        self.database.pool = pool(&self.database.url);
    }

    async fn start_serve(&mut self) {
        let accounts = self.folder.path().join("accounts.toml");
        let tables = ACCOUNTS.iter().map(|(id, token, _)| {
            format!("[[account]]\nauth_id = \"{id}\"\nauth_token = \"{token}\"\nmax_rps = 1000\n")
        });
        std::fs::write(&accounts, tables.collect::<String>()).unwrap();
        let (database, api, port) = (self.database.url.clone(), self.vobiz.api_url(), self.port);
        let serve = move || {
            let settings = [
                ("DATABASE_URL", database.as_str()),
                ("VOBIZ_API_URL", &api),
                ("VOBIZ_ACCOUNTS_FILE", accounts.to_str().unwrap()),
                ("CDR_CALLBACK_URL", SIGNED_FOR),
                ("CDR_REQUEST_TIMEOUT", "10s"),
                // Its tenth is how often it asks whether a sweep is due, and that is real time.
                ("CDR_SWEEP_INTERVAL", "10s"),
            ];
            Serve::start(port, &settings)
        };
        self.serve = Some(spawn_blocking(serve).await.unwrap());
    }

    async fn end_serve(&mut self) {
        let mut serve = self.serve.take().unwrap();
        serve.terminate();
        let status = spawn_blocking(move || serve.wait()).await.unwrap();
        assert!(status.success(), "{status}");
    }

    /// Waits until a sweep that began after this instant has read every account a day deep. The one that is under way does not
    /// count, and the next one is due ten seconds later, so the clocks are moved on a little.
    pub(super) async fn swept_since(&self, instant: DateTime<Utc>) {
        let sql = "select count(*) from vobiz.account where swept_wide_at >= $1";
        until("every account is swept", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            advance(&self.database, &self.vobiz, TimeDelta::seconds(4)).await;
            let swept = sqlx::query_scalar::<_, i64>(sql).bind(instant).fetch_one(&self.database.pool);
            swept.await.unwrap() == i64::try_from(ACCOUNTS.len()).unwrap()
        })
        .await;
    }

    /// Lets two hours go by without calls, until all is fetched and a sweep has found what no callback announced: returns an
    /// instant of which we know all that Vobiz knows. It lies in the last quarter of the second hour: costs settle at the full
    /// hours, late CDRs appear at the half, and a sweep is a day deep only if an hour went by since the last one that was.
    pub(super) async fn rest(&mut self) -> DateTime<Utc> {
        self.idle += 2;
        let rest = self.mark() - TimeDelta::minutes(15);
        self.move_to(rest).await;
        self.swept_since(rest).await;
        self.settle(true, false).await;
        self.vobiz.now()
    }

    /// All ends well. The service is killed: it ended in order before.
    pub(super) async fn end(mut self) {
        self.database.every_certain_call_is_somewhere().await;
        self.serve.as_mut().unwrap().kill();
        self.vobiz.stop().await;
        self.database.pool.close().await;
        self.server.take().unwrap().stop().await.unwrap();
    }
}

async fn start_server(folder: &TempDir) -> Server {
    let started = Server::start(ServerOptions {
        data_dir: folder.path().join("data"),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
        settings: Vec::new(),
    });
    started.await.unwrap_or_else(|error| panic!("{error}"))
}
