//! The sweep: what no callback announced is found in the list and stored, once.

mod drain;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::account::Account;
use vobiz_cdr::db;
use vobiz_cdr::list::ListError;
use vobiz_cdr::simulator::{Call, CallSpec};
use vobiz_cdr::sweep::{Drained, Sweeper};
use vobiz_cdr::watch::metrics::Metrics;

use crate::support::calls::account as id;
use crate::support::database::ACCOUNT;
use crate::support::wait::until;
use crate::support::world::{TOKEN, World, account, credentials};

/// No sweep is due for a long time.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 86_400);

/// Calls that ended over the last so many hours, newest first, each with a backlog's row: the API was away.
pub(crate) async fn outage(world: &World, calls: usize, hours: i64) -> Vec<Call> {
    let now = world.database.now().await;
    let step = TimeDelta::hours(hours) / i32::try_from(calls).unwrap();
    let mut placed = Vec::new();
    for n in 0..calls {
        let ended_at = now - step * i32::try_from(n).unwrap();
        placed.push(world.vobiz.place_call(CallSpec { ended_at: Some(ended_at), ..CallSpec::default() }));
    }
    owe_since(world, &placed).await;
    placed
}

/// Owes calls since a moment after their end, with their callbacks in the log.
pub(crate) async fn owe_since(world: &World, calls: &[Call]) {
    let ids: Vec<&str> = calls.iter().map(|call| call.call_id.as_str()).collect();
    for ids in ids.chunks(500) {
        world.database.owe(ids, true).await;
    }
    let ended: Vec<DateTime<Utc>> = calls.iter().map(|call| call.ended_at).collect();
    sqlx::query(
        "update vobiz.cdr_queue q set enqueued_at = e.at + interval '1 s', announced_at = e.at + interval '1 s',
                due_at = e.at + interval '5 s'
         from unnest($1::text[], $2::timestamptz[]) as e (call_id, at)
         where q.call_id = e.call_id and e.at < vobiz.now() - interval '6 s'",
    )
    .bind(ids)
    .bind(ended)
    .execute(&world.database.pool)
    .await
    .unwrap();
}

/// One drain by list now at so many requests a second, where no sweep is due.
pub(crate) async fn drain_by_list(world: &World, max_rps: f64) -> Result<Option<Drained>, ListError> {
    swept_just_now(world).await;
    let paced = paced(world, max_rps);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![paced.clone()], NEVER, Metrics::new());
    sweeper.drain_if_backlogged(&paced, &CancellationToken::new()).await
}

/// A drain by list that goes on, so slowly that it is met on its way.
pub(crate) struct Drain {
    pub(crate) account: Arc<Account>,
    /// The word to stop it.
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<Result<Option<Drained>, ListError>>,
}

impl Drain {
    /// Begins one at so many requests a second, where no sweep is due, and waits until it has stored something.
    pub(crate) async fn begin(world: &World, max_rps: f64) -> Self {
        Self::begin_with(world, paced(world, max_rps)).await
    }

    pub(crate) async fn begin_with(world: &World, account: Arc<Account>) -> Self {
        swept_just_now(world).await;
        let sweeper = Sweeper::new(world.database.pool.clone(), vec![account.clone()], NEVER, Metrics::new());
        let (drained, stop) = (account.clone(), CancellationToken::new());
        let told = stop.clone();
        let ended = tokio::spawn(async move { sweeper.drain_if_backlogged(&drained, &told).await });
        until("the drain is on", async || world.stored().await > 100).await;
        Self { account, stop, ended }
    }

    /// Stops it, in the middle of its backlog.
    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        let ended = self.ended.await.unwrap();
        assert!(matches!(ended, Err(ListError::Stopped)), "{ended:?}");
    }
}

pub(crate) async fn swept_just_now(world: &World) {
    world
        .database
        .run("update vobiz.account set swept_at = vobiz.now(), sweep_from = vobiz.now(), swept_wide_at = vobiz.now()")
        .await;
}

/// An account at a pace at which a drain can be met on its way.
pub(crate) fn paced(world: &World, max_rps: f64) -> Arc<Account> {
    account(&world.database.pool, &world.vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), max_rps)
}

pub(crate) async fn reserved(world: &World) -> String {
    world.text("select coalesce(listed_due_to, listing_until) from vobiz.account").await
}

pub(crate) async fn owed(world: &World) -> i64 {
    world.database.count("select count(*) from vobiz.cdr_queue").await
}

/// Every call is there once, in one version, as announced; nothing is owed.
pub(crate) async fn all_stored_once(world: &World, calls: usize) {
    let calls = i64::try_from(calls).unwrap();
    assert_eq!(world.stored().await, calls);
    assert_eq!(owed(world).await, 0);
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_revision").await, calls);
    let announced =
        "select count(*) from vobiz.cdr where origin = 'callback' and first_callback_at is not null";
    assert_eq!(world.database.count(announced).await, calls);
}

#[tokio::test]
async fn a_lost_callback_is_healed_by_the_sweep_and_a_late_one_is_still_noted() {
    let world = World::new().await;
    for _ in 0..250 {
        world.vobiz.place_call(CallSpec::default());
    }
    let owed = world.owed_call().await;
    let swept = world.sweep().await;
    assert_eq!((swept.new, swept.pages, swept.unreadable), (251, 3, 0));
    assert_eq!(world.status(&owed.call_id).await, "∅", "the sweep pays what the queue owes");
    let healed = "select count(*) from vobiz.cdr where origin = 'sweep' and first_callback_at is null";
    assert_eq!(world.database.count(healed).await, 250);
    assert_eq!(world.sweep().await.new, 0, "a second sweep finds nothing new");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr_revision").await, 251);
    world.end().await;
}

#[tokio::test]
async fn a_cost_that_is_revised_later_becomes_a_revision() {
    let world = World::new().await;
    let call = world.owed_call().await;
    world.drain().await;
    let changed =
        world.vobiz.revise(&call.call_id, |call| call.cost += rust_decimal::Decimal::new(12345, 5)).unwrap();
    assert_eq!(world.sweep().await.revised, 1);
    assert_eq!(
        world.text("select total_cost from vobiz.cdr").await,
        changed.total_cost().normalize().to_string()
    );
    assert_eq!(world.text("select revision from vobiz.cdr").await, "2");
    let costs = "select array_agg(total_cost order by revision) from vobiz.cdr_revision";
    assert_eq!(
        world.text(costs).await,
        format!("{{{},{}}}", call.total_cost().normalize(), changed.total_cost().normalize())
    );
    world.end().await;
}

#[tokio::test]
async fn a_paused_account_is_not_swept() {
    let world = World::new().await;
    world.owed_call().await;
    world.vobiz.set_token(ACCOUNT, "rotated away");
    world.drain().await;
    let sweeper = vobiz_cdr::sweep::Sweeper::new(
        world.database.pool.clone(),
        world.accounts.clone(),
        Duration::ZERO,
        vobiz_cdr::watch::metrics::Metrics::new(),
    );
    let stop = tokio_util::sync::CancellationToken::new();
    assert_eq!(sweeper.sweep_if_due(&world.accounts[0], &stop).await.unwrap(), None);
    world.end().await;
}

#[tokio::test]
async fn a_sweep_that_meets_a_backlog_is_the_drain_and_reads_it_once() {
    let world = World::new().await;
    outage(&world, 3000, 12).await;
    // The last sweep completed before the outage; a wide one is due as well.
    world
        .database
        .run(
            "update vobiz.account set sweep_from = vobiz.now() - interval '12 hours',
                    swept_at = vobiz.now() - interval '12 hours', swept_wide_at = vobiz.now() - interval '13 hours'",
        )
        .await;
    let every = Duration::from_secs(300);
    let paced = paced(&world, 100.0);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![paced.clone()], every, Metrics::new());
    // Even the loop that polls for backlogs leaves it to the sweep.
    let drained = sweeper.drain_if_backlogged(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!((drained.paid, drained.left), (3000, 0));
    all_stored_once(&world, 3000).await;
    let requests = world.vobiz.stats().total_requests();
    assert!(requests <= 32, "{requests} requests for 3000 calls");
    assert_eq!(reserved(&world).await, "∅");
    let stop = CancellationToken::new();
    assert_eq!(sweeper.sweep_if_due(&paced, &stop).await.unwrap(), None, "it was the sweep");
    assert_eq!(sweeper.drain_if_backlogged(&paced, &stop).await.unwrap(), None);
    // The wide overlap has its turn with the next one, and covers what it would have covered.
    world.database.shift_clock("6 minutes").await;
    let mut connection = world.database.connection().await;
    let plan = vobiz_cdr::db::account::plan_sweep(&mut connection, &id(), every).await.unwrap().unwrap();
    assert!(plan.wide);
    let depth = plan.now - plan.down_to;
    assert!(depth > TimeDelta::hours(13 + 25), "{depth}");
    world.end().await;
}

#[tokio::test]
async fn a_sweep_without_a_deep_backlog_reserves_nothing_and_keeps_its_overlap() {
    let world = World::new().await;
    outage(&world, 200, 2).await;
    let pool = world.database.pool.clone();
    let stop = CancellationToken::new();
    let watching = stop.clone();
    let reservations = tokio::spawn(async move {
        let mut reservations = 0;
        while !watching.is_cancelled() {
            let reserved: i64 =
                sqlx::query_scalar("select count(*) from vobiz.account where listing_until is not null")
                    .fetch_one(&pool)
                    .await
                    .unwrap();
            reservations += reserved;
        }
        reservations
    });
    let paced = paced(&world, 20.0);
    let sweeper =
        Sweeper::new(world.database.pool.clone(), vec![paced.clone()], Duration::ZERO, Metrics::new());
    let swept = sweeper.sweep_if_due(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    stop.cancel();
    assert_eq!(reservations.await.unwrap(), 0);
    assert_eq!((swept.new, swept.recovered), (200, 0));
    assert_eq!(world.text("select swept_wide_at is not null from vobiz.account").await, "true");
    all_stored_once(&world, 200).await;
    world.end().await;
}

#[tokio::test]
async fn a_sweep_releases_its_calls_as_soon_as_the_list_is_no_longer_worth_it() {
    let world = World::new().await;
    // Many listed calls that nobody owes, and a backlog that no list shows.
    let now = world.database.now().await;
    for n in 0..1500 {
        let ended_at = Some(now - TimeDelta::seconds(n * 2));
        world.vobiz.place_call(CallSpec { ended_at, ..CallSpec::default() });
    }
    let ids: Vec<String> = (0..1200).map(|n| format!("not-there-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    world.database.owe(&ids, true).await;
    world
        .database
        .run("update vobiz.cdr_queue set enqueued_at = vobiz.now() - interval '30 minutes', due_at = vobiz.now()")
        .await;
    let metrics = Metrics::new();
    let paced = paced(&world, 100.0);
    let every = Duration::from_secs(300);
    let sweeper = Sweeper::new(world.database.pool.clone(), vec![paced.clone()], every, metrics.clone());
    let drained = sweeper.drain_if_backlogged(&paced, &CancellationToken::new()).await.unwrap().unwrap();
    // Fifteen pages are cheaper than 1200 fetches, so it reserves them to the end, and no longer.
    assert_eq!((drained.paid, drained.left, drained.was_worth_it()), (0, 1200, false));
    assert_eq!(reserved(&world).await, "∅");
    assert_eq!(world.stored().await, 1500);
    let text = metrics.text();
    assert!(text.contains("vobiz_cdr_sweep_recovered_total 1500"), "{text}");
    assert!(text.contains("vobiz_cdr_list_pages_total{flow=\"sweep\"} 15"), "{text}");
    assert!(text.contains("vobiz_cdr_freshness_seconds_count 1500"), "{text}");
    assert_eq!(world.database.count("select count(*) from vobiz.cdr where origin = 'sweep'").await, 1500);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_or_drain_whose_lease_another_process_took_leaves_no_mark_of_it() {
    // The list of the sweep alone, and one that it reads as a drain.
    for backlog in [0, 1100] {
        let world = World::new().await;
        if backlog > 0 {
            outage(&world, backlog, 1).await;
        }
        world.vobiz.place_call(CallSpec::default());
        world
            .database
            .run(
                "create function vobiz.take_away() returns trigger language plpgsql as $$
                   begin update vobiz.work_lease set fence = fence + 1 where name like 'sweep %'; return null; end $$;
                 create trigger take_away after insert on vobiz.cdr for each statement execute function vobiz.take_away()",
            )
            .await;
        let (pool, stop) = (world.database.pool.clone(), CancellationToken::new());
        let sweeper = Sweeper::new(pool, world.accounts.clone(), Duration::ZERO, Metrics::new());
        let error = sweeper.sweep_if_due(&world.accounts[0], &stop).await.unwrap_err().to_string();
        assert!(error.contains("was lost to another process"), "{error}");
        let swept = "select count(*) from vobiz.account where swept_at is not null or sweep_from is not null";
        assert_eq!(world.database.count(swept).await, 0, "where it came to is not where all is known");
        let held = "select count(*) from vobiz.work_lease where name like 'drain %' and holder is not null";
        assert_eq!(world.database.count(held).await, 0);
        world.end().await;
    }
}

/// Makes an update of the account fail in the sessions of a replica.
async fn fail_in_a_replica(world: &World, column: &str) -> (Arc<Account>, PgPool) {
    let pool = db::connect_service(&world.database.url, "failing", 6).unwrap();
    let fault = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin
           if current_setting('application_name') like '%failing' then raise sqlstate '53100'; end if; return new; end $$;
         create trigger refuse before update on vobiz.account for each row
           when (new.{column} is distinct from old.{column}) execute function refuse()"
    );
    world.database.run(&fault).await;
    (account(&pool, &world.vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 100.0), pool)
}

/// The sweeps and drains of a replica go on until what they say of a failure is over, once it was said and something was done about it.
async fn says_until(world: &World, column: &str, every: Duration, what: &str, done: impl AsyncFnOnce()) {
    let (account, pool) = fail_in_a_replica(world, column).await;
    let (metrics, stop) = (Metrics::new(), CancellationToken::new());
    let sweeper = Sweeper::new(pool, vec![account], every, metrics.clone());
    let told = stop.clone();
    let running = tokio::spawn(async move { sweeper.run(told).await });
    let is_said = || metrics.lasting_conditions().iter().any(|lasting| lasting.what.contains(what));
    until(what, async || is_said()).await;
    done().await;
    until("it is over", async || !is_said()).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_over_when_another_replica_has_done_it_or_nothing_is_left_to_do() {
    let swept = async {
        let world = World::new().await;
        world.database.stop_clock(world.database.now().await).await;
        let by_another = async || {
            world.sweep().await;
        };
        says_until(&world, "swept_at", Duration::from_secs(20), "cannot be swept", by_another).await;
        world.end().await;
    };
    let fetched = async {
        let world = World::new().await;
        outage(&world, 1100, 6).await;
        swept_just_now(&world).await;
        let one_by_one = async || world.database.run("delete from vobiz.cdr_queue").await;
        says_until(&world, "listing_until", NEVER, "cannot be drained", one_by_one).await;
    };
    tokio::join!(swept, fetched);
}
