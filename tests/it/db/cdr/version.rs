//! Versions of one call: which one is shown, which are kept, and that the order in which they come does not matter.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::AssertSqlSafe;
use vobiz_cdr::db::cdr::{self, Incoming, Upserted};

use crate::support::calls::{DIFFERS_FROM_ITS_VERSIONS, listed, single};
use crate::support::database::Database;

const NEW: Upserted = Upserted { new: 1, revised: 0, unchanged: 0 };
const REVISED: Upserted = Upserted { new: 0, revised: 1, unchanged: 0 };
const UNCHANGED: Upserted = Upserted { new: 0, revised: 0, unchanged: 1 };

fn record(fields: &str) -> String {
    format!(r#"{{"uuid":"call",{fields}}}"#)
}

fn updated(minute: u32, cost: &str) -> String {
    record(&format!(r#""updated_at":"2026-03-25T10:{minute:02}:00Z","cost":{cost},"mos":4.5"#))
}

async fn shown(db: &Database) -> String {
    db.text("select format('%s %s %s', cost, coalesce(mos::text, '-'), revision) from vobiz.cdr").await
}

async fn kept(db: &Database) -> Vec<String> {
    db.texts("select format('%s %s %s', revision, source, cost) from vobiz.cdr_revision order by revision")
        .await
}

#[tokio::test]
async fn a_newer_version_revises_and_equal_content_does_not() {
    let db = Database::new().await;
    let now = db.now().await;
    let at = |second| now + TimeDelta::seconds(second);
    assert_eq!(db.upsert(&[&single(&updated(1, "0.30"), at(0))]).await, NEW);
    // The same content in another spelling, and without a null.
    let spelt = record(r#""mos": 4.50, "cost":3e-1, "updated_at":"2026-03-25T10:01:00Z", "trunk_id":null"#);
    assert_eq!(db.upsert(&[&single(&spelt, at(1))]).await, UNCHANGED);
    assert_eq!(db.upsert(&[&listed(&updated(1, "0.30"), at(2))]).await, UNCHANGED);
    assert_eq!(shown(&db).await, "0.30 4.5 1");
    let confirmed = db.text("select (fetched_at at time zone 'utc')::text from vobiz.cdr").await;
    assert_eq!(confirmed.trim_end_matches('0'), at(2).naive_utc().to_string().trim_end_matches('0'));
    assert_eq!(db.upsert(&[&single(&updated(2, "0.45"), at(3))]).await, REVISED);
    assert_eq!(shown(&db).await, "0.45 4.5 2");
    assert_eq!(db.upsert(&[&single(&updated(2, "0.45"), at(4))]).await, UNCHANGED);
    assert_eq!(kept(&db).await, ["1 single 0.30", "2 single 0.45"]);
}

#[tokio::test]
async fn a_single_record_without_a_key_erases_it() {
    let db = Database::new().await;
    let now = db.now().await;
    db.upsert(&[&single(&updated(1, "0.30"), now)]).await;
    let bare = record(r#""updated_at":"2026-03-25T10:02:00Z","cost":0.30"#);
    assert_eq!(db.upsert(&[&single(&bare, now)]).await, REVISED);
    assert_eq!(shown(&db).await, "0.30 - 2");
}

#[tokio::test]
async fn an_older_version_never_overwrites_and_is_kept_once() {
    let db = Database::new().await;
    let now = db.now().await;
    let at = |second| now + TimeDelta::seconds(second);
    db.upsert(&[&single(&updated(5, "5"), at(0))]).await;
    for _ in 0..3 {
        // Asked for later, but Vobiz itself says that it is older.
        assert_eq!(db.upsert(&[&single(&updated(4, "4"), at(9))]).await, UNCHANGED);
        assert_eq!(shown(&db).await, "5 4.5 2");
    }
    // Without updated_at it is older than any that has one.
    db.upsert(&[&single(&record(r#""cost":3"#), at(9))]).await;
    // The same updated_at: the time of the request decides. An answer of before the confirmation comes late.
    db.upsert(&[&single(&updated(5, "5"), at(5))]).await;
    db.upsert(&[&single(&updated(5, "4.9"), at(4))]).await;
    assert_eq!(shown(&db).await, "5 4.5 4");
    assert_eq!(kept(&db).await, ["1 single 5", "2 single 4", "3 single 3", "4 single 4.9"]);
    assert_eq!(db.upsert(&[&single(&updated(5, "5.1"), at(6))]).await, REVISED);
    assert_eq!(shown(&db).await, "5.1 4.5 5");
}

#[tokio::test]
async fn a_newer_version_asked_for_earlier_does_not_take_over_the_later_time() {
    let db = Database::new().await;
    let now = db.now().await;
    let at = |second| now + TimeDelta::seconds(second);
    db.upsert(&[&single(&updated(1, "1"), at(5))]).await;
    db.upsert(&[&single(&updated(2, "2"), at(3))]).await;
    assert_eq!(db.upsert(&[&single(&updated(2, "2.5"), at(4))]).await, REVISED);
    assert_eq!(shown(&db).await, "2.5 4.5 3");
}

#[tokio::test]
async fn a_list_row_that_says_less_changes_nothing() {
    let db = Database::new().await;
    let now = db.now().await;
    db.upsert(&[&single(&updated(1, "0.30"), now)]).await;
    let less = record(r#""updated_at":"2026-03-25T10:01:00Z","cost":0.3"#);
    assert_eq!(db.upsert(&[&listed(&less, now + TimeDelta::days(1))]).await, UNCHANGED);
    assert_eq!(shown(&db).await, "0.30 4.5 1");
    assert_eq!(kept(&db).await, ["1 single 0.30"]);
}

#[tokio::test]
async fn a_list_row_with_another_cost_merges_and_erases_nothing() {
    let db = Database::new().await;
    let now = db.now().await;
    let at = |second| now + TimeDelta::seconds(second);
    db.upsert(&[&single(&updated(1, "0.30"), now)]).await;
    let dearer = r#""updated_at":"2026-03-25T10:02:00Z","cost":0.45"#;
    assert_eq!(db.upsert(&[&listed(&record(dearer), at(1))]).await, REVISED);
    assert_eq!(shown(&db).await, "0.45 4.5 2");
    // The next list has one key more; it does not erase what only the single record said either.
    let more = record(&format!(r#"{dearer},"billsec":42"#));
    assert_eq!(db.upsert(&[&listed(&more, at(2))]).await, REVISED);
    assert_eq!(shown(&db).await, "0.45 4.5 3");
    assert_eq!(db.count("select billsec::bigint from vobiz.cdr").await, 42);
    assert_eq!(kept(&db).await, ["1 single 0.30", "2 list 0.45", "3 list 0.45"]);
}

#[tokio::test]
async fn a_list_row_is_laid_over_a_record_whatever_its_unknown_keys_hold() {
    let db = Database::new().await;
    let now = db.now().await;
    let odd = |minute: u32, more: &str| {
        record(&format!(r#""updated_at":"2026-03-25T10:{minute:02}:00Z","cost":0.{minute},{more}"#))
    };
    db.upsert(&[&single(&odd(1, r#""mos":4.5,"old":"\ud83d","both":1"#), now)]).await;
    assert_eq!(db.upsert(&[&listed(&odd(2, r#""new":"\u0000","both":2"#), now)]).await, REVISED);
    assert_eq!(shown(&db).await, "0.2 4.5 2");
    let extra = db.text("select extra::text from vobiz.cdr").await;
    for said in [r#""old":"\ud83d""#, r#""new":"\u0000""#, r#""both":2"#] {
        assert!(extra.replace(": ", ":").contains(said), "{said} {extra}");
    }
}

#[tokio::test]
async fn a_single_record_enriches_a_list_row_whenever_it_was_asked_for() {
    for second in [-60, 60] {
        let db = Database::new().await;
        let now = db.now().await;
        let less = record(r#""updated_at":"2026-03-25T10:01:00Z","cost":0.30"#);
        db.upsert(&[&listed(&less, now)]).await;
        assert_eq!(shown(&db).await, "0.30 - 1");
        let whole = single(&updated(1, "0.30"), now + TimeDelta::seconds(second));
        assert_eq!(db.upsert(&[&whole]).await, REVISED);
        assert_eq!(shown(&db).await, "0.30 4.5 2");
        assert_eq!(db.upsert(&[&listed(&less, now)]).await, UNCHANGED);
        assert_eq!(kept(&db).await, ["1 list 0.30", "2 single 0.30"]);
    }
}

#[tokio::test]
async fn an_older_single_record_fills_what_a_newer_list_row_left_out() {
    let db = Database::new().await;
    let now = db.now().await;
    let dearer = record(r#""updated_at":"2026-03-25T10:02:00Z","cost":0.45"#);
    db.upsert(&[&listed(&dearer, now)]).await;
    db.upsert(&[&single(&updated(1, "0.30"), now)]).await;
    assert_eq!(shown(&db).await, "0.45 4.5 2");
}

/// A snapshot of the call: what its record was like, when it was asked for, and whether singly or by list.
#[derive(Debug, Clone)]
struct Snapshot {
    state: u32,
    second: u32,
    complete: bool,
}

/// The record in one of its states. Its cost tells the states apart; a list leaves keys out.
fn body(state: u32, complete: bool) -> String {
    let mut fields = vec![r#""account_id":"MA_TESTAB12""#.to_owned(), format!(r#""cost":0.{state}"#)];
    // Without it the day comes from the end, or the row may leave it to the versions before.
    if complete || state.is_multiple_of(4) {
        fields.push(format!(r#""start_time":"2026-03-25T10:00:{state:02}Z""#));
    }
    fields.push(r#""end_time":"2026-03-26T00:00:00Z""#.to_owned());
    // Every second state was written without a new updated_at.
    if state >= 2 {
        fields.push(format!(r#""updated_at":"2026-03-25T10:{:02}:00Z""#, state / 2));
    }
    if !state.is_multiple_of(3) {
        fields.push(format!(r#""billsec":{state}"#));
    }
    if complete {
        fields.push(format!(r#""mos":{state}.5,"unknown":{state}"#));
        if state.is_multiple_of(2) {
            fields.push(format!(r#""codec":"c{state}""#));
        }
    }
    record(&fields.join(","))
}

fn snapshots(only_singles: bool) -> impl Strategy<Value = Vec<Snapshot>> {
    let snapshot = (0..30u32, 0..3u32, any::<bool>());
    prop::collection::vec(snapshot, 1..7).prop_map(move |snapshots| {
        let snapshot = |(second, late, complete)| Snapshot {
            // The states follow one another in time; only a single record may be asked for late and show an old one
            // (that is what Vobiz's updated_at is for).
            state: second / 4,
            second: if only_singles { second + 9 * late } else { second },
            complete: complete || only_singles,
        };
        snapshots.into_iter().map(snapshot).collect()
    })
}

/// Stores the snapshots in this order, in a transaction that is rolled back, and returns the row.
async fn row_after(db: &Database, now: DateTime<Utc>, snapshots: &[&Snapshot]) -> String {
    let versions: Vec<Incoming> = snapshots
        .iter()
        .map(|snapshot| {
            let at = now + TimeDelta::seconds(snapshot.second.into());
            let body = body(snapshot.state, snapshot.complete);
            if snapshot.complete { single(&body, at) } else { listed(&body, at) }
        })
        .collect();
    let mut transaction = db.pool.begin().await.unwrap();
    for version in &versions {
        cdr::upsert(&mut transaction, &[version]).await.unwrap();
    }
    let bookkeeping = "'{stored_at,origin,attempts,revision}'";
    let sql = format!("select (to_jsonb(c) - {bookkeeping}::text[])::text from vobiz.cdr c");
    let row = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await.unwrap();
    let kept: bool = sqlx::query_scalar(
        "select count(distinct content_hash) = count(*) or max(revision) <= 2 * count(distinct content_hash) + 4
           and max(revision) = (select revision from vobiz.cdr) and count(*) = max(revision)
         from vobiz.cdr_revision",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert!(kept, "versions are counted and none is kept without end");
    let differs: i64 =
        sqlx::query_scalar(DIFFERS_FROM_ITS_VERSIONS).fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(differs, 0, "the row is what its versions say");
    let (reparsed, _) = cdr::reparse::reparse(&mut transaction, None, None, 10, true).await.unwrap();
    assert_eq!((reparsed.calls, reparsed.changed), (1, 0), "built anew, it is the same: {reparsed:?}");
    transaction.rollback().await.unwrap();
    row
}

fn upserts_commute(only_singles: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (db, now) = runtime.block_on(async {
        let db = Database::new().await;
        let now = db.now().await;
        (db, now)
    });
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let orders = snapshots(only_singles).prop_flat_map(|snapshots| {
        let repeats = prop::collection::vec(0..snapshots.len(), 0..3);
        let every: Vec<usize> = (0..snapshots.len()).collect();
        let order = (Just(every).prop_shuffle(), repeats).prop_map(|(mut order, repeats)| {
            order.extend(repeats);
            order
        });
        (Just(snapshots), prop::collection::vec(order, 2))
    });
    TestRunner::new(config)
        .run(&orders, |(mut snapshots, orders)| {
            snapshots.sort_by_key(|snapshot| snapshot.second);
            let in_time: Vec<&Snapshot> = snapshots.iter().collect();
            let expected = runtime.block_on(row_after(&db, now, &in_time));
            for order in orders {
                let shuffled: Vec<&Snapshot> = order.into_iter().map(|n| &snapshots[n]).collect();
                let found = runtime.block_on(row_after(&db, now, &shuffled));
                prop_assert_eq!(&found, &expected, "{:?}", shuffled);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn single_records_end_in_the_same_row_in_any_order() {
    upserts_commute(true);
}

#[test]
fn single_records_and_list_rows_end_in_the_same_row_in_any_order() {
    upserts_commute(false);
}
