//! `reparse`: the columns of stored CDRs rebuilt from the payloads that were kept.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use sqlx::Connection;
use vobiz_cdr::db::base::task::{self, Task};
use vobiz_cdr::db::base::work_lease::WorkLease;
use vobiz_cdr::db::cdr;

use crate::support::calls::{DIFFERS_FROM_ITS_VERSIONS, listed, single};
use crate::support::database::Database;
use crate::support::process::{Finished, program, run};

fn reparse(db: &Database, arguments: &[&str]) -> Finished {
    run(program(&[&["reparse"], arguments].concat()).env("DATABASE_URL", &db.url).env("SUDO_USER", "asha"))
}

/// The counts of a reparse that ends with this code.
fn counts(db: &Database, arguments: &[&str], code: i32) -> Value {
    let finished = reparse(db, &[&["--json"], arguments].concat());
    assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Stores calls `call-0001`, …, each a single record with a list row of another cost laid over it.
async fn store(db: &Database, calls: usize) {
    let now = db.now().await;
    let ids: Vec<String> = (1..=calls).map(|n| format!("call-{n:04}")).collect();
    let singles: Vec<_> = ids
        .iter()
        .map(|id| {
            let fields = r#""account_id":"MA_TESTAB12","start_time":"2026-03-25T10:00:00Z","updated_at":"2026-03-25T10:01:00Z","caller_id_number":"09876543210","cost":1.10,"currency":"INR","odd":{"a":[1,null]},"mos":"?""#;
            single(&format!(r#"{{"uuid":"{id}",{fields}}}"#), now)
        })
        .collect();
    db.upsert(&singles.iter().collect::<Vec<_>>()).await;
    let rows: Vec<_> = ids
        .iter()
        .map(|id| {
            let fields = r#""updated_at":"2026-03-25T10:02:00Z","cost":1.20,"new":"é","jitter":"?""#;
            listed(&format!(r#"{{"uuid":"{id}",{fields}}}"#), now + TimeDelta::seconds(5))
        })
        .collect();
    db.upsert(&rows.iter().collect::<Vec<_>>()).await;
}

/// Everything in the table; how `extra` is spelt and in which order the notes stand are of no matter.
async fn everything(db: &Database) -> Vec<String> {
    db.texts(
        "select (to_jsonb(c) - '{extra,notes}'::text[])::text || array(select unnest(notes) order by 1)::text
                || array(select key || (value::text) from json_each(extra) order by 1)::text
         from vobiz.cdr c order by call_id",
    )
    .await
}

#[tokio::test]
async fn what_was_changed_by_hand_is_mended_and_audited() {
    let db = Database::new().await;
    store(&db, 3).await;
    let before = everything(&db).await;
    let first = reparse(&db, &[]);
    assert!(first.status.success(), "{}", first.stderr);
    assert!(
        first.stdout.is_empty() && first.stderr.contains("nothing to change in 3 calls"),
        "{}",
        first.stderr
    );
    assert_eq!(everything(&db).await, before, "nothing was written");

    db.run("update vobiz.cdr set cost = cost + 0.01, mos = 1, extra = null, notes = '{}' where call_id <> 'call-0002'").await;
    db.run("update vobiz.cdr set codec = 'made up' where call_id = 'call-0002'").await;
    db.run("update vobiz.cdr set start_time = null, account_id = 'MA_WRONG' where call_id = 'call-0003'")
        .await;
    let wrong = everything(&db).await;
    let dry = counts(&db, &["--dry-run"], 0);
    assert_eq!((&dry["calls"], &dry["changed"]), (&3.into(), &3.into()));
    assert_eq!(
        dry["columns"],
        serde_json::json!({"account_id": 1, "codec": 1, "cost": 2, "day_at": 1, "extra": 2, "mos": 2, "notes": 2, "start_time": 1})
    );
    assert_eq!(everything(&db).await, wrong, "a dry run writes nothing");
    assert_eq!(db.count("select count(*) from vobiz.task where finished_at is null").await, 0);

    let mended = reparse(&db, &["--by", "Ravi"]);
    assert!(mended.status.success(), "{}", mended.stderr);
    assert!(mended.stderr.contains("3 of 3 calls changed"), "{}", mended.stderr);
    assert!(mended.stdout.lines().any(|line| line.split_whitespace().eq(["cost", "2"])), "{}", mended.stdout);
    assert_eq!(everything(&db).await, before);
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    let audit = db
        .texts(
            "select concat_ws(' ', call_id, account_id, detail->'was'->>'cost', detail->'is'->>'cost', by like '% (Ravi)')
             from vobiz.audit where action = 'reparsed' order by call_id",
        )
        .await;
    assert_eq!(audit, ["call-0001 MA_TESTAB12 1.21 1.20 t", "call-0003 MA_TESTAB12 1.21 1.20 t"]);
    let by_hand = "select count(*) from vobiz.audit where action = 'cdr_changed_by_hand'";
    assert_eq!(db.count(by_hand).await, 3, "those of this test alone");
}

#[tokio::test]
async fn rows_that_were_read_by_older_rules_are_read_anew() {
    let db = Database::new().await;
    let now = db.now().await;
    let odd = r#"{"uuid":"odd","start_time":"1970-01-01T00:00:00Z","end_time":"2026-03-25T10:00:42Z","updated_at":"2099-01-01T00:00:00Z",
        "billsec":-1589286045,"duration":"00:01:12","mos":45,"currency":"inr","call_direction":"Incoming","cost":0.45}"#;
    let usual = r#"{"uuid":"usual","start_time":"2026-03-25T10:00:00Z","billsec":42,"currency":"INR","call_direction":"inbound","cost":0.450}"#;
    db.upsert(&[&single(odd, now), &single(usual, now)]).await;
    let new = everything(&db).await;
    // As the rules before these read it.
    let old = "set updated_at = '2099-01-01Z', billsec = -1589286045, duration = null, currency = 'inr', call_direction = 'Incoming'";
    db.run(&format!(
        "update vobiz.cdr {old}, start_time = '1970-01-01Z', mos = 45, notes = '{{}}' where call_id = 'odd'"
    ))
    .await;
    db.run(&format!("alter table vobiz.cdr_revision disable trigger user; update vobiz.cdr_revision {old} where call_id = 'odd'")).await;
    let versions = "select string_agg(concat_ws(' ', call_id, revision, encode(content_hash, 'hex'), payload), ';' order by call_id)
                    from vobiz.cdr_revision";
    let kept = db.text(versions).await;
    let done = counts(&db, &[], 0);
    assert_eq!(
        (&done["calls"], &done["changed"], &done["versions_read_differently"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(everything(&db).await, new);
    assert_eq!(db.text(versions).await, kept, "no version is added, and none has another hash");
    assert_eq!(counts(&db, &[], 0)["changed"], 0, "once is enough");
    // What comes again is what is known.
    let done =
        db.upsert(&[&single(odd, now + TimeDelta::days(1)), &single(usual, now + TimeDelta::days(1))]).await;
    assert_eq!((done.new, done.revised, done.unchanged), (0, 0, 2));
    assert_eq!(db.text(versions).await, kept);
}

#[tokio::test]
async fn whichever_column_a_hand_empties_is_filled_again() {
    let db = Database::new().await;
    let record = std::fs::read_to_string("tests/data/vobiz/cdr_every_key.json").unwrap();
    let mut record = serde_json::from_str::<Value>(&record).unwrap()["data"].take();
    record["unknown_key"] = Value::from(1);
    db.upsert(&[&single(&record.to_string(), db.now().await)]).await;
    let before = everything(&db).await;
    // What is not read from the payload: when a callback came.
    let columns = db
        .texts(
            "select column_name::text from information_schema.columns
             where table_schema = 'vobiz' and table_name = 'cdr' and is_nullable = 'YES' and is_generated = 'NEVER'
               and column_name <> 'first_callback_at'",
        )
        .await;
    assert!(columns.len() > 40, "{columns:?}");
    for column in columns {
        let filled = db.count(&format!("select count({column}) from vobiz.cdr")).await;
        assert_eq!(filled, 1, "the sample says nothing of {column}");
        db.run(&format!("update vobiz.cdr set {column} = null")).await;
        assert_eq!(counts(&db, &[], 0)["columns"][&column], 1, "{column}");
        assert_eq!(everything(&db).await, before, "{column}");
    }
}

#[tokio::test]
async fn another_home_country_is_read_from_the_kept_numbers() {
    let db = Database::new().await;
    store(&db, 2).await;
    assert_eq!(db.text("select distinct caller_e164 from vobiz.cdr").await, "+919876543210");
    db.run("update vobiz.setting set home_country = '44'").await;
    let done = counts(&db, &[], 0);
    assert_eq!(done["columns"], serde_json::json!({"caller_e164": 2}));
    assert_eq!(db.text("select distinct caller_e164 from vobiz.cdr").await, "+449876543210");
    assert_eq!(db.count("select count(*) from vobiz.audit").await, 0, "the bill is the same");
    assert_eq!(counts(&db, &[], 0)["changed"], 0);
}

#[tokio::test]
async fn one_account_alone_is_rebuilt_where_it_is_named() {
    let db = Database::new().await;
    store(&db, 2).await;
    db.run("update vobiz.cdr set codec = 'x'").await;
    let nobody = reparse(&db, &["--account", "MA_NOBODY"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("who has any: MA_TESTAB12"), "{}", nobody.stderr);
    assert_eq!(counts(&db, &["--account", "MA_TESTAB12"], 0)["changed"], 2);
}

#[tokio::test]
async fn a_call_without_all_of_its_versions_is_left_and_one_that_cannot_be_read_is_said() {
    let db = Database::new().await;
    store(&db, 3).await;
    db.run("delete from vobiz.cdr_revision where call_id = 'call-0001' and revision = 1").await;
    db.run("update vobiz.cdr set cost = 9").await;
    // As a payload from before a rule that refuses it.
    db.run(
        "alter table vobiz.cdr_revision disable trigger user;
         update vobiz.cdr_revision set payload = '{}' where call_id = 'call-0002' and revision = 2;
         update vobiz.cdr_revision set cost = 7 where call_id = 'call-0003' and revision = 2;
         alter table vobiz.cdr_revision enable trigger user",
    )
    .await;
    let done = counts(&db, &[], 1);
    assert_eq!(done["calls"], 3);
    assert_eq!(done["changed"], 1);
    assert_eq!(done["versions_missing"], 1);
    assert_eq!(done["unreadable"], 1);
    assert_eq!(done["versions_read_differently"], 1);
    assert_eq!(db.texts("select cost::text from vobiz.cdr order by call_id").await, ["9", "9", "1.20"]);
}

#[tokio::test]
async fn one_that_was_stopped_goes_on_where_it_came_to_and_counts_all() {
    let db = Database::new().await;
    store(&db, 1200).await;
    db.run("update vobiz.cdr set codec = 'x'").await;
    // The first step of one that is killed then: the batch and its checkpoint are one transaction.
    let mut connection = db.connection().await;
    let begun = task::begin(&mut connection, "reparse", None).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let (done, last) = cdr::reparse::reparse(&mut transaction, None, None, 500, false).await.unwrap();
    let step = Task { position: last, detail: Some(serde_json::to_string(&done).unwrap()), ..begun };
    task::step(&mut transaction, &step, done.calls, done.changed).await.unwrap();
    transaction.commit().await.unwrap();
    drop(connection);

    let refused = reparse(&db, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("--resume"), "{}", refused.stderr);
    // Those before the position are not read again.
    db.run("update vobiz.cdr set codec = 'y' where call_id = 'call-0001'").await;
    let resumed = counts(&db, &["--resume"], 0);
    assert_eq!((&resumed["calls"], &resumed["changed"]), (&1200.into(), &1200.into()));
    assert_eq!(db.texts("select call_id from vobiz.cdr where codec is not null").await, ["call-0001"]);
    let task = "select concat_ws(' ', position, done, changed, finished_at is not null) from vobiz.task";
    assert_eq!(db.texts(task).await, ["call-1200 1200 1200 t"]);
    let nothing = reparse(&db, &["--resume"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", nothing.stderr);
    assert_eq!(counts(&db, &[], 0)["changed"], 1, "a new one begins at the beginning");
}

#[tokio::test]
async fn one_at_a_time_works_on_a_database() {
    let db = Database::new().await;
    let mut connection = db.connection().await;
    assert!(WorkLease::take(&mut connection, "reparse").await.unwrap().is_some());
    let refused = reparse(&db, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("another reparse is at work"), "{}", refused.stderr);
    assert!(reparse(&db, &["--dry-run"]).status.success(), "a dry run disturbs nobody");
    drop(connection);
}

#[tokio::test]
async fn a_version_that_comes_in_meanwhile_is_neither_lost_nor_undone() {
    let db = Database::new().await;
    store(&db, 1000).await;
    db.run("update vobiz.cdr set codec = 'x'").await;
    let now = db.now().await + TimeDelta::seconds(60);
    let newer = |n: usize| {
        let fields = r#""updated_at":"2026-03-25T10:09:00Z","cost":5,"codec":"opus""#;
        single(&format!(r#"{{"uuid":"call-{n:04}",{fields}}}"#), now)
    };
    let rebuilt = {
        let url = db.url.clone();
        tokio::task::spawn_blocking(move || run(program(&["reparse"]).env("DATABASE_URL", url)))
    };
    for first in (1..=1000).step_by(100) {
        let group: Vec<_> = (first..first + 100).map(newer).collect();
        db.upsert(&group.iter().collect::<Vec<_>>()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rebuilt = rebuilt.await.unwrap();
    assert!(rebuilt.status.success(), "{}", rebuilt.stderr);
    assert_eq!(
        db.count("select count(*) from vobiz.cdr where cost = 5 and codec = 'opus' and revision = 3").await,
        1000
    );
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    assert_eq!(counts(&db, &[], 0)["changed"], 0);
}

#[tokio::test]
async fn one_that_is_killed_is_resumed_and_changes_each_call_once() {
    let db = Database::new().await;
    store(&db, 1600).await;
    db.run("update vobiz.cdr set cost = cost + 1").await;
    // The fourth batch waits for this row.
    let mut connection = db.connection().await;
    let mut holder = connection.begin().await.unwrap();
    sqlx::query("select from vobiz.cdr where call_id = 'call-1550' for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut child = program(&["reparse"]).env("DATABASE_URL", &db.url).spawn().unwrap();
    db.comes_to(1500, "select coalesce(max(done), 0) from vobiz.task").await;
    child.kill().unwrap();
    child.wait().unwrap();
    holder.rollback().await.unwrap();
    drop(connection);
    // Its session ends a moment after it, and does not stand in the way.
    let refused = reparse(&db, &[]);
    assert!(refused.stderr.contains("--resume"), "{}", refused.stderr);
    let resumed = counts(&db, &["--resume"], 0);
    assert_eq!((&resumed["calls"], &resumed["changed"]), (&1600.into(), &1600.into()));
    assert_eq!(db.text("select distinct cost::text from vobiz.cdr").await, "1.20");
    let audited = "select count(*) from vobiz.audit where action = 'reparsed'";
    assert_eq!(db.count(audited).await, 1600);
}
