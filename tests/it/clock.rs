//! A clock of Postgres that was ahead for a while: what was written then is not believed, and holds nothing up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::account::{self, Pause};
use vobiz_cdr::db::queue::{self, backlog};
use vobiz_cdr::db::{ledger, overview};
use vobiz_cdr::postgres::{Postgres as Server, PostgresOptions};
use vobiz_cdr::retry::PauseReason;
use vobiz_cdr::simulator::{Answer, CallSpec, Simulator, SimulatorOptions};

use crate::ledger::{checker, ledger_world};
use crate::support::calls::{account as id, replica};
use crate::support::database::{ACCOUNT, Database};
use crate::support::running::Running;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, World, options, serve_config};

const AHEAD: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_secs(60);
/// How far the clock is ahead.
const JUMPS: [&str; 2] = ["2 hours", "40 days"];

/// Columns of whose instants one lies in the future.
async fn ahead(db: &Database) -> String {
    let thorough = overview::thorough(&mut *db.connection().await).await.unwrap();
    thorough.instants_ahead.into_iter().map(|ahead| ahead.columns).collect()
}

#[tokio::test]
async fn each_instant_of_an_account_is_believed_no_further_than_its_rule_writes_it() {
    for jump in JUMPS {
        let db = Database::new().await;
        let set =
            async |sql: &str| db.run(&sql.replace("FAR", &format!("vobiz.now() + interval '{jump}'"))).await;
        let mut connection = db.connection().await;
        assert_eq!(ahead(&db).await, "");

        set("update vobiz.account set next_slot = FAR").await;
        assert_eq!(ahead(&db).await, "next_slot");
        let slots = account::reserve(&mut connection, &id(), 10.0, 1, AHEAD).await.unwrap();
        assert_eq!((slots.count, slots.wait < Duration::from_secs(1)), (1, true), "{slots:?}");
        assert_eq!(ahead(&db).await, "", "and it is written anew");

        set("update vobiz.account set rate_share = 0.5, rate_share_at = FAR").await;
        let rate =
            async || db.text("select (100 * vobiz.rate_in_force(a))::int::text from vobiz.account a").await;
        assert_eq!(rate().await, "50");
        account::reserve(&mut connection, &id(), 10.0, 1, Duration::from_secs(10)).await.unwrap();
        db.shift_clock("60 seconds").await;
        assert_eq!(rate().await, "100", "it recovers");

        set("update vobiz.account set swept_at = FAR, swept_wide_at = FAR, sweep_from = FAR").await;
        assert_eq!(ahead(&db).await, "sweep_from, swept_at, swept_wide_at");
        let plan =
            account::plan_sweep(&mut connection, &id(), 5 * MINUTE).await.unwrap().expect("a sweep is due");
        assert!(plan.wide && plan.now - plan.down_to > TimeDelta::hours(26), "{plan:?}");
        account::swept(&mut connection, &id(), &plan).await.unwrap();
        assert_eq!(ahead(&db).await, "");

        db.owe(&["a"], true).await;
        set("update vobiz.account set listed_due_to = FAR, listing_until = FAR").await;
        assert!(queue::any_due(&mut connection, &replica()).await.unwrap(), "nobody reads it by the list");
        assert!(!backlog::snapshot(&mut connection, &id(), 10.0).await.unwrap().unwrap().reserved);
        set(
            "update vobiz.account set listed_due_to = null, listing_until = null, pause_reason = 'throttled',
                    paused_since = FAR - interval '1 minute', paused_until = FAR",
        )
        .await;
        assert!(!account::is_paused(&mut connection, &id(), &replica()).await.unwrap());
        assert_eq!(db.lease(5).await.len(), 1, "{jump}");

        // Of this replica alone, too; and its probe is due.
        let pause = Pause { reason: PauseReason::Denied, length: MINUTE, error: "denied: 401" };
        account::pause(&mut connection, &id(), &replica(), pause).await.unwrap();
        set("update vobiz.account_replica set seen_at = FAR, probe_at = FAR, paused_since = FAR;
             update vobiz.account set paused_until = FAR; update vobiz.account_pause set until_at = FAR")
        .await;
        assert!(account::status(&mut connection, &id(), &replica()).await.unwrap().unwrap().probe);
        account::resume(&mut connection, &id(), &replica(), "denied").await.unwrap();
        assert!(!account::is_paused(&mut connection, &id(), &replica()).await.unwrap());
        assert_eq!(
            db.count(
                "select count(*) from vobiz.account_pause where until_at > vobiz.now() + interval '2 minutes'"
            )
            .await,
            0
        );

        set("update vobiz.account set ledger_since = FAR, registered_at = FAR, last_answer_at = FAR;
             update vobiz.account_replica set seen_at = FAR")
        .await;
        assert!(ahead(&db).await.contains("ledger_since"));
        account::is_paused(&mut connection, &id(), &replica()).await.unwrap();
        account::answered(&mut connection, &id(), &replica()).await.unwrap();
        assert_eq!(ahead(&db).await, "", "{jump}");
        ledger::due(&mut connection, &id(), Duration::ZERO).await.unwrap();
        assert!(db.count("select count(*) from vobiz.provider_day").await > 0, "days begin now");
    }
}

#[tokio::test]
async fn calls_that_were_put_off_further_than_their_rule_are_due_now() {
    for (class, most) in [("not_yet", "60 minutes"), ("unavailable", "15 minutes"), ("refused", "40 minutes")]
    {
        let db = Database::new().await;
        db.owe(&["far", "near"], true).await;
        db.run(&format!(
            "update vobiz.cdr_queue set failures = 1, error_class = '{class}', last_error = 'x', first_failed_at = vobiz.now(),
                    due_at = vobiz.now() + interval '{most}' + case call_id when 'far' then interval '2 hours' else interval '0' end"
        ))
        .await;
        assert_eq!(queue::mend_due(&mut *db.connection().await, &id(), 10).await.unwrap(), 1, "{class}");
        let leased: Vec<String> = db.lease(9).await.iter().map(|lease| lease.call_id().to_string()).collect();
        assert_eq!(leased, ["far"], "{class}");
    }
}

/// All at once, by the flows themselves: they work under the clock that is ahead, and go on when it is right again.
#[tokio::test]
async fn what_is_done_under_a_clock_that_is_ahead_holds_nothing_up_afterwards() {
    for jump in JUMPS {
        let world = World::new().await;
        let missing = world.vobiz.place_call(CallSpec::default());
        world.owe(&missing.call_id, true).await;
        world.vobiz.script(&missing.call_id, [Answer::NotFound]);
        world.database.shift_clock(jump).await;
        world.sweep().await;
        let late = world.owed_call().await;
        world.vobiz.script(&late.call_id, [Answer::NotFound]);
        world.drain().await;
        backlog::reserve(&mut *world.database.connection().await, &id(), world.database.now().await, MINUTE)
            .await
            .unwrap();
        let pause = Pause { reason: PauseReason::Throttled, length: MINUTE, error: "throttled: 429" };
        account::pause(&mut *world.database.connection().await, &id(), &replica(), pause).await.unwrap();

        world.database.shift_clock("10 seconds").await;
        assert!(ahead(&world.database).await.contains("swept_at"), "{jump}");
        let (one, two) = (world.owed_call().await, world.vobiz.place_call(CallSpec::default()));
        world.drain().await;
        assert_eq!(
            world
                .database
                .count(&format!(
                    "select count(*) from vobiz.cdr where call_id in ('{}', '{}')",
                    one.call_id, late.call_id
                ))
                .await,
            2
        );
        let sweeper = vobiz_cdr::sweep::Sweeper::new(
            world.database.pool.clone(),
            world.accounts.clone(),
            5 * MINUTE,
            vobiz_cdr::watch::metrics::Metrics::new(),
        );
        let swept = sweeper
            .sweep_if_due(&world.accounts[0], &CancellationToken::new())
            .await
            .unwrap()
            .expect("it is due");
        assert_eq!(swept.recovered, 1, "{} in {jump}: {swept:?}", two.call_id);
        assert_eq!(ahead(&world.database).await, "", "{jump}");
        world.end().await;
    }
}

#[tokio::test]
async fn days_that_were_settled_under_a_clock_that_is_ahead_are_open_again() {
    for days in [1, 40] {
        let (world, began) = ledger_world(options()).await;
        crate::ledger::at(&world, began, 3.0);
        let now = world.database.now().await;
        let far = now + TimeDelta::days(days);
        world.database.stop_clock(far).await;
        let checker = checker(&world);
        let stop = CancellationToken::new();
        while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
        let settled = "select count(*) from vobiz.provider_day where state = 'settled'";
        assert!(world.database.count(settled).await >= days, "as if they were over");
        world.database.stop_clock(now).await;
        let safe: DateTime<Utc> = sqlx::query_scalar("select safe_to from vobiz.safe_to_bill")
            .fetch_one(&world.database.pool)
            .await
            .unwrap();
        assert!(safe <= now, "before anybody looks at the days: {safe}");
        let held = world.text("select held_by from vobiz.safe_to_bill").await;
        assert!(held.contains("under a clock that was ahead"), "{held}");
        assert!(ahead(&world.database).await.contains("checked_at"));
        while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
        assert_eq!(ahead(&world.database).await, "");
        let not_over = "select count(*) from vobiz.provider_day where state <> 'open' and to_at > vobiz.now() - interval '1 hour'";
        assert_eq!(world.database.count(not_over).await, 0);
        assert!(world.database.count(settled).await >= 1, "those that are over are settled anew");
        world.end().await;
    }
}

#[tokio::test]
async fn a_day_whose_check_began_before_its_end_is_not_settled() {
    let (world, began) = ledger_world(options()).await;
    crate::ledger::at(&world, began, 3.0);
    let checker = checker(&world);
    let stop = CancellationToken::new();
    while checker.check_if_due(&world.accounts[0], &stop).await.unwrap().is_some() {}
    let day = "(select min(day) from vobiz.provider_day)";
    assert_eq!(
        world.text(&format!("select state from vobiz.provider_day where day = {day}")).await,
        "settled"
    );
    // What a clock forty days ahead left behind, forty days later.
    world
        .database
        .run(&format!("update vobiz.provider_day set began_at = to_at - interval '1 hour' where day = {day}"))
        .await;
    let safe: DateTime<Utc> = sqlx::query_scalar("select safe_to from vobiz.safe_to_bill")
        .fetch_one(&world.database.pool)
        .await
        .unwrap();
    assert!(safe <= began, "{safe}");
    let again = checker.check_if_due(&world.accounts[0], &stop).await.unwrap().expect("it is due");
    assert_eq!(again.state.as_str(), "settled");
    world.end().await;
}

/// Vobiz is ahead of Postgres: by what it answers, the clock of Postgres is behind. Times of calls would look like none, and the calls
/// would lie on the days of the wrong clock.
#[tokio::test]
async fn nothing_is_stored_by_a_clock_that_is_behind() {
    for (jump, seconds) in [("2 hours", 7200), ("40 days", 40 * 86_400)] {
        let db = Database::new().await;
        let vobiz = Simulator::start(SimulatorOptions { clock_ahead: seconds, ..options() }).await.unwrap();
        let config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        let running = Running::start(config, &db.url).await;
        let announced = vobiz.place_call(CallSpec::default());
        db.owe(&[&announced.call_id], true).await;
        let silent = vobiz.place_call(CallSpec::default());
        until("it is said", async || {
            let acts = running.acts().await;
            acts.iter().any(|act| act.contains("the clock of Postgres is") && act.contains("s behind"))
        })
        .await;
        assert!(vobiz.stats().total_requests() > 0);
        let written = "select count(*) from vobiz.cdr_revision";
        assert_eq!(db.count(written).await, 0, "{jump}");
        db.shift_clock(jump).await;
        until_is("both come", 2, async || db.count("select count(*) from vobiz.cdr").await).await;
        for call in [&announced, &silent] {
            let started = db
                .text(&format!("select start_time::text from vobiz.cdr where call_id = '{}'", call.call_id))
                .await;
            assert_ne!(started, "-", "{jump}");
        }
        let failed = "select count(*) from vobiz.cdr where attempts > 1 or notes <> '{}'";
        assert_eq!(db.count(failed).await, 0, "{jump}");
        running.end().await;
    }
}

/// The very first answer says so: it is given back, whatever it was, and costs the call nothing.
#[tokio::test]
async fn an_answer_that_says_that_the_clock_is_behind_is_not_stored() {
    for answer in [None, Some(Answer::NotFound)] {
        let world = World::with(SimulatorOptions { clock_ahead: 7200, ..options() }).await;
        let client = &world.accounts[0].client;
        client.use_access(client.candidates()[0]);
        let call = world.owed_call().await;
        world.vobiz.script(&call.call_id, answer.clone());
        let stop = CancellationToken::new();
        let until_given_back = async {
            until("it was given back", async || {
                world.database.count("select count(*) from vobiz.cdr_queue where due_at < vobiz.now() + interval '20 seconds'").await == 1
                    && world.vobiz.stats().fetches_of(&call.call_id) > 0
            })
            .await;
            stop.cancel();
        };
        tokio::join!(world.fetcher.run(stop.clone()), until_given_back);
        assert_eq!(
            world.vobiz.stats().fetches_of(&call.call_id),
            1,
            "and it is not asked for again: {answer:?}"
        );
        assert_eq!(world.status(&call.call_id).await, "- 0 alive");
        assert_eq!(world.stored().await, 0);
        world.database.shift_clock("2 hours").await;
        world.drain().await;
        assert_eq!(world.stored().await, 1, "{answer:?}");
        world.end().await;
    }
}

/// Where Debian's libfaketime lies.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
    folders.iter().map(|folder| Path::new(folder).join("libfaketimeMT.so.1")).find(|library| library.exists())
}

/// A Postgres whose clock is what a file says, and the folder that holds it.
async fn postgres_with_a_clock(library: &Path, folder: &Path) -> Server {
    use std::os::unix::fs::PermissionsExt;
    let installed = vobiz_cdr::postgres::installed().await;
    let real = &installed.first().expect("Postgres is installed").1;
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(folder.join("clock"), "+0").unwrap();
    for name in ["initdb", "pg_ctl", "psql"] {
        std::os::unix::fs::symlink(real.join(name), bin.join(name)).unwrap();
    }
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {}/postgres \"$@\"\n",
        library.display(),
        folder.join("clock").display(),
        real.display()
    );
    std::fs::write(bin.join("postgres"), script).unwrap();
    std::fs::set_permissions(bin.join("postgres"), PermissionsExt::from_mode(0o755)).unwrap();
    Server::start(PostgresOptions { data_dir: folder.join("data"), bin_dir: Some(bin), settings: vec![] })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A service on a Postgres whose clock can be set.
struct SetClock {
    folder: tempfile::TempDir,
    server: Server,
    vobiz: Simulator,
    running: Running,
    pool: sqlx::PgPool,
}

impl SetClock {
    /// None where libfaketime is not installed, which is said.
    async fn start() -> Option<Self> {
        let Some(library) = faketime() else {
            // Past the capturing of the test harness.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: libfaketime is not installed (apt-get install libfaketime)"
            );
            return None;
        };
        let folder = tempfile::Builder::new().prefix("vobiz-cdr-clock.").tempdir().unwrap();
        // The server's own user has to read the clock.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let server = postgres_with_a_clock(&library, folder.path()).await;
        let url = server.url("postgres");
        let vobiz = Simulator::start(options()).await.unwrap();
        let mut config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        config.sweep_interval = Duration::from_secs(1);
        let running = Running::start(config, &url).await;
        let pool = vobiz_cdr::db::connect(&url, "test", 2).unwrap();
        Some(Self { folder, server, vobiz, running, pool })
    }

    /// Sets the clock of Postgres so far ahead, or back.
    fn set(&self, jump: &str) {
        std::fs::write(self.folder.path().join("clock"), jump).unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn instant(&self, sql: &'static str) -> DateTime<Utc> {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn end_well(self) {
        self.running.all_is_well().await;
        self.running.end().await;
        self.pool.close().await;
        self.server.stop().await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The clock of the machine of Postgres is two hours ahead, or forty days, for as long as a sweep takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_whose_clock_jumps_and_comes_back_stops_nothing() {
    let swept = "select count(*) from vobiz.account where swept_at > now() - interval '1 minute' and swept_at <= now()";
    for jump in ["+2h", "+40d"] {
        let Some(world) = SetClock::start().await else { return };
        until("it has swept", async || world.count(swept).await == 1).await;

        world.set(jump);
        until("Postgres lives in the future", async || {
            let ours = DateTime::<Utc>::from(std::time::SystemTime::now());
            world.instant("select clock_timestamp()").await > ours + TimeDelta::hours(1)
        })
        .await;
        until("and a sweep was there", async || world.count(swept).await == 1).await;
        world.set("+0");

        world.vobiz.place_call(CallSpec::default());
        until_is("a call that nobody announced is swept", 1, async || {
            world.count("select count(*) from vobiz.cdr").await
        })
        .await;
        until_is("and no day of the future is settled", 0, async || {
            world
                .count("select count(*) from vobiz.provider_day where state = 'settled' and to_at > now()")
                .await
        })
        .await;
        until("and the clock is right for all", async || world.count(swept).await == 1).await;
        world.end_well().await;
    }
}

/// The clock of the machine of Postgres goes back, and comes back: calls that end meanwhile are billed where they belong.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_whose_clock_goes_back_moves_no_call() {
    let calls = "select count(*) from vobiz.cdr";
    let began = "select ledger_since from vobiz.account";
    for jump in ["-2h", "-40d"] {
        let Some(world) = SetClock::start().await else { return };
        let (vobiz, running) = (&world.vobiz, &world.running);
        vobiz.place_call(CallSpec::default());
        until_is("a call is swept", 1, async || world.count(calls).await).await;
        let since = world.instant(began).await;

        world.set(jump);
        until("it is said", async || {
            let acts = running.acts().await;
            acts.iter().any(|act| act.contains("nothing is fetched, listed or proven"))
        })
        .await;
        vobiz.place_call(CallSpec::default());
        let asked = vobiz.stats().total_requests();
        until("the sweep has looked at the clock again", async || {
            running.acts().await.iter().any(|act| act.contains("sweep"))
        })
        .await;
        assert_eq!((world.count(calls).await, vobiz.stats().total_requests()), (1, asked), "{jump}");

        world.set("+0");
        until_is("the other one is swept", 2, async || world.count(calls).await).await;
        let today = "select count(*) from vobiz.cdr where start_time is not null and day_at > now() - interval '1 hour'";
        assert_eq!(world.count(today).await, 2, "{jump}");
        assert_eq!(world.instant(began).await, since, "{jump}: nobody owes the days of the wrong clock");
        world.end_well().await;
    }
}
