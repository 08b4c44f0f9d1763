//! The time in which no process fetches calls of an account, though some are configured with it.

use std::time::Duration;

use chrono::TimeDelta;
use vobiz_cdr::db::account::{self, Duty, Pause, Replica};
use vobiz_cdr::db::overview;
use vobiz_cdr::retry::{ErrorClass, PauseReason};

use crate::support::calls::{account, waiting};
use crate::support::database::Database;

const MINUTE: Duration = Duration::from_secs(60);

/// How the only process that fetches stops doing so.
#[derive(Debug, Clone, Copy)]
enum Stops {
    PausedAlone,
    Ended,
    Killed,
    Never,
}

async fn present(db: &Database, replica: &Replica, duty: Duty) {
    account::present(&mut *db.connection().await, &account(), replica, duty).await.unwrap();
}

async fn unfetched_minutes(db: &Database) -> f64 {
    let seen = overview::quick(&mut *db.connection().await).await.unwrap();
    seen.accounts[0].unfetched_seconds / 60.0
}

#[tokio::test]
async fn what_nobody_can_fetch_does_not_age_and_it_is_known_for_how_long() {
    use Stops::{Ended, Killed, Never, PausedAlone};
    for (stops, duty) in [
        (PausedAlone, Duty::List),
        (Ended, Duty::Receive),
        (Ended, Duty::List),
        (Killed, Duty::Receive),
        (Never, Duty::List),
    ] {
        let db = Database::new().await;
        let (fetches, other) = (Replica::new("host-a", 1), Replica::new("host-b", 2));
        let begun = db.now().await;
        let at = async |minute| db.stop_clock(begun + TimeDelta::minutes(minute)).await;
        at(0).await;
        present(&db, &fetches, Duty::Fetch).await;
        present(&db, &other, duty).await;
        db.owe(&["a"], true).await;
        db.postpone(waiting(db.lease_one().await, ErrorClass::NotYet)).await;
        let mut connection = db.connection().await;
        let pause = Pause { reason: PauseReason::Denied, length: MINUTE, error: "401" };
        match stops {
            PausedAlone => account::pause(&mut connection, &account(), &fetches, pause).await.unwrap(),
            Ended => account::leave(&mut connection, &fetches).await.unwrap(),
            Killed | Never => {}
        }
        for minute in 0..120 {
            at(minute).await;
            if matches!(stops, PausedAlone | Never) {
                present(&db, &fetches, Duty::Fetch).await;
            }
            present(&db, &other, duty).await;
        }
        assert_eq!(db.count("select count(*) from vobiz.account where pause_reason is not null").await, 0);
        let (unfetched, age) = if matches!(stops, Never) { (0.0, 120) } else { (119.0, 0) };
        assert!((unfetched_minutes(&db).await - unfetched).abs() < 0.01, "{stops:?}");
        // It can again, and in an hour the call is one hour old.
        at(120).await;
        account::resume(&mut connection, &account(), &fetches, "denied").await.unwrap();
        present(&db, &fetches, Duty::Fetch).await;
        assert!(unfetched_minutes(&db).await == 0.0, "{stops:?}");
        at(180).await;
        let found = db.lease_one().await.history.not_yet_for.unwrap();
        assert_eq!(found, MINUTE * (60 + age), "{stops:?} {duty:?}");
        let stretches = db.count("select count(*) from vobiz.account_pause where reason = 'unfetched'").await;
        assert_eq!(stretches, i64::from(!matches!(stops, Never)), "{stops:?}: one stretch, not one a tick");
    }
}

#[tokio::test]
async fn stretches_that_overlap_count_once() {
    for (stretches, age) in [
        ("('unfetched', 10, 8), ('denied', 9, 7)", 7),
        ("('unfetched', 10, 2), ('denied', 9, 7), ('throttled', 6, 5)", 2),
        ("('unfetched', 20, 9), ('denied', 3, 1)", 7),
        ("('denied', 20, 12)", 10),
    ] {
        let db = Database::new().await;
        db.stop_clock(db.now().await).await;
        db.run(&format!(
            "insert into vobiz.account_pause (account_id, started_at, until_at, reason)
             select account_id, vobiz.now() - s * interval '1 hour', vobiz.now() - e * interval '1 hour', reason
             from vobiz.account, (values {stretches}) v (reason, s, e)"
        ))
        .await;
        let sql = "select extract(epoch from vobiz.unpaused_age(account_id, vobiz.now() - interval '10 hours'))::bigint / 3600 from vobiz.account";
        assert_eq!(db.count(sql).await, age, "{stretches}");
    }
}

#[tokio::test]
async fn a_stretch_that_a_wrong_clock_wrote_is_not_believed() {
    for ahead in ["2 hours", "40 days"] {
        let db = Database::new().await;
        let other = Replica::new("host-b", 2);
        db.shift_clock(ahead).await;
        present(&db, &other, Duty::Receive).await;
        db.shift_clock("0").await;
        assert!(unfetched_minutes(&db).await == 0.0, "{ahead}");
        present(&db, &other, Duty::Receive).await;
        assert!(unfetched_minutes(&db).await < 1.0, "{ahead}");
        let open = "select count(*) from vobiz.account_pause where reason = 'unfetched' and started_at <= vobiz.now() and until_at > vobiz.now()";
        assert_eq!(db.count(open).await, 1, "{ahead}");
    }
}
