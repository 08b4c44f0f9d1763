//! Callbacks, fetches, sweeps, leases and revives at the same time: nothing is lost, and nobody waits in a circle.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, PgConnection};
use vobiz_cdr::db::base::clock::Clock;
use vobiz_cdr::db::cdr::{Incoming, Origin};
use vobiz_cdr::db::queue::{self, FetchOutcome, Lease, Then, dead_letter, enqueue};
use vobiz_cdr::db::{Fault, fault};
use vobiz_cdr::retry::ErrorClass;

use crate::support::calls::{account, announce, failed, plain, replica, single, try_lease};
use crate::support::database::Database;
use crate::support::wait::LIMIT;

/// Stores rows of a list, whatever leases there are.
async fn sweep(connection: &mut PgConnection, rows: &mut [Incoming]) -> Result<(), sqlx::Error> {
    queue::store_listed(connection, rows, Origin::Sweep, None).await.map(drop)
}

/// The one call that is owed leaves the queue as a stored call does.
async fn leave_as_stored(db: &Database) {
    let lease = db.lease_one().await;
    assert!(lease.stored, "nothing is fetched twice");
    db.end(FetchOutcome::Paid(lease)).await;
    assert_eq!(db.count("select count(*) from vobiz.cdr_queue").await, 0);
    assert_eq!(db.count("select count(*) from vobiz.cdr where first_callback_at is not null").await, 1);
}

#[tokio::test]
async fn a_late_duplicate_callback_waits_for_the_cdr_that_is_stored_and_fetches_nothing_twice() {
    for (certain, commits) in [(true, true), (true, false), (false, true), (false, false)] {
        let db = Database::new().await;
        db.owe(&["a"], certain).await;
        let lease = db.lease_one().await;
        let mut storing = db.pool.begin().await.unwrap();
        let row = Box::new(plain("a", lease.now()));
        queue::store(&mut storing, &[FetchOutcome::Store(lease, row)]).await.unwrap();
        let mut connection = db.connection().await;
        let late = announce(&mut connection, &["a"], true);
        let end = async {
            db.comes_to(1, "select count(*) from pg_catalog.pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await;
            if commits { storing.commit().await } else { storing.rollback().await }.unwrap();
        };
        let (committed, ()) = join(late, end).await;
        committed.unwrap();
        db.every_certain_call_is_somewhere().await;
        if commits {
            leave_as_stored(&db).await;
        } else {
            assert_eq!(db.texts("select call_id from vobiz.cdr_queue where certain").await, ["a"]);
        }
    }
}

#[tokio::test]
async fn a_callback_that_commits_after_the_sweep_stored_its_call_leaves_again() {
    let db = Database::new().await;
    let now = db.now().await;
    let mut announcing = db.pool.begin().await.unwrap();
    announce(&mut announcing, &["a"], true).await.unwrap();
    // The sweep does not see the row that is not committed yet, and does not wait for it.
    sweep(&mut *db.connection().await, &mut [plain("a", now)]).await.unwrap();
    announcing.commit().await.unwrap();
    leave_as_stored(&db).await;
}

#[tokio::test]
async fn a_call_that_becomes_certain_while_it_is_closed_stays_owed() {
    let db = Database::new().await;
    db.owe(&["a"], false).await;
    let lease = db.lease_one().await;
    let mut announcing = db.pool.begin().await.unwrap();
    announce(&mut announcing, &["a"], true).await.unwrap();
    let gone = failed(lease, ErrorClass::NotYet, Then::Close);
    let end = async {
        db.comes_to(1, "select count(*) from pg_catalog.pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await;
        announcing.commit().await.unwrap();
    };
    let (closed, ()) = join(db.close(gone), end).await;
    assert_eq!(closed, 0);
    assert_eq!(db.texts("select call_id from vobiz.cdr_queue where certain").await, ["a"]);

    // The other way round: closed first, so the callback owes it anew.
    let db = Database::new().await;
    db.owe(&["a"], false).await;
    let gone = failed(db.lease_one().await, ErrorClass::NotYet, Then::Close);
    let mut closing = db.pool.begin().await.unwrap();
    assert_eq!(queue::store(&mut closing, &[FetchOutcome::Fail(gone)]).await.unwrap().closed, 1);
    let mut connection = db.connection().await;
    let end = async {
        db.comes_to(1, "select count(*) from pg_catalog.pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await;
        closing.commit().await.unwrap();
    };
    let (committed, ()) = join(announce(&mut connection, &["a"], true), end).await;
    assert_eq!(committed.unwrap().new, ["a"]);
    assert_eq!(db.texts("select call_id from vobiz.cdr_queue where certain").await, ["a"]);
}

#[tokio::test]
async fn groups_that_overlap_in_opposite_order_never_deadlock() {
    let db = Database::new().await;
    let now = db.now().await;
    for round in 0..30 {
        let calls: Vec<String> = (0..24).map(|n| format!("{round}-{n}")).collect();
        let names: Vec<&str> = calls.iter().map(String::as_str).collect();
        let backwards: Vec<&str> = names.iter().rev().copied().collect();
        db.owe(&names, true).await;
        let storer = async |names: &[&str], cost: &str| {
            let mut rows: Vec<Incoming> = names
                .iter()
                .map(|call| single(&format!(r#"{{"uuid":"{call}","cost":{cost}}}"#), now))
                .collect();
            sweep(&mut *db.connection().await, &mut rows).await
        };
        let caller = async || announce(&mut *db.connection().await, &backwards, true).await.map(drop);
        let teller = async || {
            let told: Vec<String> = backwards.iter().map(ToString::to_string).collect();
            enqueue::announce_stored(&mut *db.connection().await, &told).await
        };
        let ((one, two), (three, four)) =
            Box::pin(join(join(storer(&names, "1"), storer(&backwards, "2")), join(caller(), teller())))
                .await;
        for result in [one, two, three, four] {
            assert!(result.is_ok(), "{result:?}");
        }
    }
    assert_eq!(db.count("select count(*) from vobiz.cdr").await, 30 * 24);
    assert_eq!(db.count("select count(*) from vobiz.cdr where cost = 1 or cost = 2").await, 30 * 24);
    assert_eq!(db.count("select count(*) from vobiz.cdr_revision").await, 2 * 30 * 24);
}

const CALLS: usize = 40;

/// What the walkers have done together: the small model.
#[derive(Default)]
struct Model {
    /// Proven hang-ups whose callback was committed.
    certain: RefCell<BTreeSet<String>>,
    /// CDRs that were committed.
    stored: RefCell<BTreeSet<String>>,
}

/// One process of a fleet, doing everything at once, with leases that mostly run out too early.
struct Walker<'a> {
    db: &'a Database,
    model: &'a Model,
    random: SmallRng,
}

impl Walker<'_> {
    fn some_calls(&mut self) -> Vec<String> {
        let mut calls: Vec<String> = (0..CALLS).map(|n| format!("call-{n}")).collect();
        calls.shuffle(&mut self.random);
        calls.truncate(self.random.random_range(1..8));
        calls
    }

    fn record(&mut self, call: &str, lease: Option<&Lease>, now: chrono::DateTime<chrono::Utc>) -> Incoming {
        let cost = self.random.random_range(0..3);
        single(&format!(r#"{{"uuid":"{call}","cost":{cost}}}"#), lease.map_or(now, Lease::now))
    }

    async fn step(&mut self) -> Result<(), sqlx::Error> {
        let mut connection = self.db.connection().await;
        match self.random.random_range(0..10) {
            0..3 => self.announce(&mut connection).await,
            3 => self.sweep(&mut connection).await,
            4 => {
                let calls = self.some_calls();
                let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
                dead_letter::revive(&mut connection, &calls).await.map(drop)
            }
            _ => self.fetch(&mut connection).await,
        }
    }

    async fn announce(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (calls, certain) = (self.some_calls(), self.random.random_bool(0.4));
        let names: Vec<&str> = calls.iter().map(String::as_str).collect();
        announce(connection, &names, certain).await?;
        if certain {
            self.model.certain.borrow_mut().extend(calls);
        }
        Ok(())
    }

    async fn sweep(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let now = Clock::read(connection).await?.now();
        let call = self.some_calls().remove(0);
        let row = self.record(&call, None, now);
        sweep(connection, &mut [row]).await?;
        self.model.stored.borrow_mut().insert(call);
        Ok(())
    }

    async fn fetch(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        use ErrorClass::{NeverAppeared, NotYet, Refused, Unavailable, Unstorable};
        let most = self.random.random_range(1..8);
        let length = Duration::from_millis(self.random.random_range(0..40));
        let ahead = Duration::from_secs(1);
        let (leases, _) =
            queue::lease(connection, (&account(), &replica()), most, 1e6, ahead, length, [None; 3]).await?;
        // Vobiz takes its time; another walker may lease the same calls meanwhile.
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..30))).await;
        let now = Clock::read(connection).await?.now();
        let (mut outcomes, mut stored) = (Vec::new(), Vec::new());
        for lease in leases {
            let call = lease.call_id().to_string();
            outcomes.push(match self.random.random_range(0..100) {
                0..12 => {
                    let row = Box::new(self.record(&call, Some(&lease), now));
                    stored.push(call);
                    FetchOutcome::Store(lease, row)
                }
                12..25 => continue, // Cut off.
                25..35 => FetchOutcome::Release(lease, Duration::ZERO),
                35..70 => {
                    let class = *[NotYet, Unavailable, Refused].choose(&mut self.random).unwrap();
                    FetchOutcome::Fail(failed(lease, class, Then::Wait(Duration::from_millis(5))))
                }
                70..85 => {
                    let class = *[NeverAppeared, Refused, Unstorable].choose(&mut self.random).unwrap();
                    FetchOutcome::Fail(failed(lease, class, Then::Bury))
                }
                _ => FetchOutcome::Fail(failed(lease, NotYet, Then::Close)),
            });
        }
        outcomes.shuffle(&mut self.random);
        let mut transaction = connection.begin().await?;
        queue::store(&mut transaction, &outcomes).await?;
        if self.random.random_bool(0.1) {
            // Killed before the commit.
            return transaction.rollback().await;
        }
        transaction.commit().await?;
        self.model.stored.borrow_mut().extend(stored);
        Ok(())
    }
}

async fn walk(seed: u64) {
    let db = Database::new().await;
    let model = Model::default();
    let deadline = Instant::now() + Duration::from_millis(1200);
    let walkers = (0..6).map(async |n| {
        let mut walker = Walker { db: &db, model: &model, random: SmallRng::seed_from_u64(seed * 100 + n) };
        // On a busy machine it takes longer until most calls had their turn.
        while Instant::now() < deadline || model.certain.borrow().len() <= CALLS / 2 {
            assert!(Instant::now() < deadline + LIMIT, "most calls never have their turn");
            if let Err(error) = walker.step().await {
                assert_eq!(fault(&error), Fault::Retry, "{error}");
            }
        }
    });
    join_all(walkers).await;

    // Every certain call is stored, or owed (alive or dead) as certain; what was stored stays stored.
    let (certain, stored) = (model.certain.into_inner(), model.stored.into_inner());
    assert!(certain.len() > CALLS / 2, "the walk was a walk: {}", certain.len());
    let set = async |sql: &str| db.texts(sql).await.into_iter().collect::<BTreeSet<String>>();
    let in_cdr = set("select call_id from vobiz.cdr").await;
    assert_eq!(in_cdr, stored, "seed {seed}");
    let owed = set("select call_id from vobiz.cdr_queue where certain").await;
    let nowhere: Vec<_> = certain.difference(&in_cdr).filter(|call| !owed.contains(*call)).collect();
    assert!(nowhere.is_empty(), "nowhere, seed {seed}: {nowhere:?}");
    db.every_certain_call_is_somewhere().await;
    let miscounted = "select count(*) from vobiz.cdr c
                      where revision <> (select count(*) from vobiz.cdr_revision r where r.call_id = c.call_id)
                         or revision <> (select max(revision) from vobiz.cdr_revision r where r.call_id = c.call_id)";
    assert_eq!(db.count(miscounted).await, 0);

    // And from any such state everything that is owed can be brought to its end.
    let all: Vec<String> = owed.into_iter().collect();
    let mut connection = db.connection().await;
    dead_letter::revive(&mut connection, &all.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    db.shift_clock("1 minute").await;
    let leases = try_lease(&mut connection, 1000).await.unwrap();
    let mut rows: Vec<Incoming> =
        leases.iter().map(|lease| plain(lease.call_id().as_str(), lease.now())).collect();
    sweep(&mut connection, &mut rows).await.unwrap();
    assert_eq!(db.count("select count(*) from vobiz.cdr_queue").await, 0);
    let in_cdr = set("select call_id from vobiz.cdr").await;
    assert!(certain.is_subset(&in_cdr));
}

#[tokio::test]
async fn a_random_walk_loses_no_certain_call() {
    walk(1).await;
}

#[tokio::test]
async fn another_random_walk_loses_no_certain_call() {
    walk(2).await;
}
