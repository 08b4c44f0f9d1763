//! `verify`: it finds what was tampered with, and repairs it beside writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::db::bill::{drift, fold, insert};
use crate::support::database::Database;
use crate::support::process::{Finished, author, program, run};

fn verify(db: &Database, arguments: &[&str]) -> Finished {
    run(program(&[&["verify"], arguments].concat())
        .env("DATABASE_URL", &db.url)
        .env("SUDO_USER", "asha")
        .env("USER", "somebody"))
}

#[tokio::test]
async fn verify_finds_what_was_tampered_with_and_repairs_it() {
    let db = Database::new().await;
    db.run(&insert("select 'c' || i, 'MA_A', 't', timestamptz '2026-03-01Z' + i * interval '1 h', i, 0.10 from generate_series(1, 50) i")).await;
    fold(&db, 1000).await;
    db.run(&insert(
        "select 'd' || i, 'MA_B', 't', timestamptz '2026-03-01Z', i, 0.10 from generate_series(1, 50) i",
    ))
    .await;
    let right = verify(&db, &[]);
    assert_eq!(right.status.code(), Some(0), "{}", right.stderr);
    assert!(right.stdout.is_empty() && right.stderr.contains("51 sums over 100 calls"), "{}", right.stderr);

    // A cost changed, a key lost, and one that no call has; of the currency that is none.
    db.run("update vobiz.rollup set cost = cost + 0.0001 where bucket = '2026-03-01 05:00Z'").await;
    db.run("delete from vobiz.rollup where bucket = '2026-03-01 06:00Z'").await;
    db.run(
        "insert into vobiz.rollup_delta values ('MA_B', 'unassigned', '2026-05-01Z', null, null, false, 7, 0, 0, 0, 0, 0, 0, 0, 7)",
    )
    .await;
    let wrong = verify(&db, &["--json"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", wrong.stderr);
    let json: Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((&json["equal"], &json["repaired"]), (&false.into(), &false.into()));
    assert_eq!(json["settled"]["money_not_compared"], 0);
    // The bill goes no further, whoever found it.
    let noted = "select concat_ws(' ', account_id, day, sums) from vobiz.wrong_sum order by account_id, day";
    assert_eq!(db.texts(noted).await, ["MA_A 2026-03-01 3", "MA_B 2026-05-01 1"]);
    let found = json["differences"].as_array().unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|d| (&d["bucket"], &d["rollup"]["cost"], &d["calls"]["cost"], &d["rollup"]["calls"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&"2026-03-01T05:00:00Z".into(), &"0.1001".into(), &"0.1".into(), &1.into()),
            (&"2026-03-01T06:00:00Z".into(), &"0".into(), &"0.1".into(), &0.into()),
            (&"2026-05-01T00:00:00Z".into(), &"0".into(), &"0".into(), &7.into()),
        ]
    );
    // The days still say what the quarters said.
    let days = json["days"].as_array().unwrap();
    let seen: Vec<_> = days
        .iter()
        .map(|d| (&d["day"], &d["rollup_day"]["cost"], &d["rollup"]["cost"], &d["rollup"]["calls"]))
        .collect();
    assert_eq!(seen, [(&"2026-03-01".into(), &"1.8".into(), &"1.7001".into(), &17.into())]);
    // 05:00 UTC of the first is in the day of Kolkata.
    assert_eq!(verify(&db, &["--from", "2026-03-01", "--to", "2026-03-01"]).status.code(), Some(1));
    assert_eq!(verify(&db, &["--from", "2026-03-02", "--to", "2026-04-30"]).status.code(), Some(0));
    assert_eq!(verify(&db, &["--account", "MA_B", "--to", "2026-04-30"]).status.code(), Some(0));
    let table = verify(&db, &["--account", "MA_B"]);
    assert!(table.status.code() == Some(1) && table.stdout.contains("2026-05-01 00:00"), "{}", table.stdout);
    assert_eq!(verify(&db, &["--from", "2026-03-02", "--to", "2026-03-01"]).status.code(), Some(2));

    let repaired = verify(&db, &["--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", repaired.stderr);
    assert!(
        repaired.stderr.contains("3 of 52 sums over 100 calls differed and were repaired"),
        "{}",
        repaired.stderr
    );
    assert_eq!((drift(&db).await, verify(&db, &[]).status.code()), (0, Some(0)));
    assert_eq!(db.count("select count(*) from vobiz.wrong_sum").await, 0);
    while fold(&db, 1000).await > 0 {}
    assert_eq!((drift(&db).await, verify(&db, &["--repair"]).status.code()), (0, Some(0)));
    let audited = "select concat_ws(' ', replace(by, session_user, 'user'), account_id, detail->'was'->>'cost', detail->'is'->>'cost')
                   from vobiz.audit where action = 'rollup_repaired' order by id";
    let by = author();
    let expected = ["MA_A 0.1001 0.1", "MA_A 0 0.1", "MA_B 0 0", "MA_A 1.8 1.7001"];
    assert_eq!(db.texts(audited).await, expected.map(|sums| format!("user ({by}) {sums}")));
}

#[tokio::test]
async fn verify_finds_days_that_are_not_those_of_their_quarters_and_recomputes_them() {
    let db = Database::new().await;
    db.run(&insert(
        "select 'c' || i, 'MA_' || i % 2, 't', timestamptz '2026-03-01Z' + i * interval '1 h', i, 0.10 from generate_series(1, 100) i",
    ))
    .await;
    fold(&db, 1000).await;
    let bill = "select string_agg(x::text, '; ' order by day, account_id) from vobiz.billing_day x";
    let right = db.text(bill).await;
    // A cost changed, days lost, and some that have no calls.
    db.run(
        "update vobiz.rollup_day set total_cost = total_cost + 0.0001 where day = '2026-03-02' and account_id = 'MA_0';
         delete from vobiz.rollup_day where day = '2026-03-03';
         insert into vobiz.rollup_day select account_id, 'Nobody', date '2026-05-01', currency, call_direction, answered, 7, 0, 0, 0, 0, 0, 0, 0, 0
         from vobiz.rollup_day where day = '2026-03-01'",
    )
    .await;
    assert_ne!(db.text(bill).await, right);
    for (arguments, code) in [
        (&["--from", "2026-03-04", "--to", "2026-04-30"][..], 0),
        (&["--to", "2026-03-01"], 0),
        (&["--from", "2026-03-02", "--to", "2026-03-02"], 1),
        (&["--from", "2026-03-02", "--to", "2026-03-02", "--account", "MA_1"], 0),
        (&["--from", "2026-05-01"], 1),
    ] {
        let found = verify(&db, arguments);
        assert_eq!(found.status.code(), Some(code), "{arguments:?}: {}", found.stderr);
    }
    let wrong = verify(&db, &[]);
    assert!(
        wrong.stderr.contains("the rollup equals the calls: 100 sums over 100 calls")
            && wrong
                .stderr
                .contains("5 sums by day differ from the quarters of the day: --repair makes them right")
            && wrong.stdout.contains("2026-05-01")
            && wrong.stdout.contains("Nobody"),
        "{} {}",
        wrong.stdout,
        wrong.stderr
    );
    let json: Value = serde_json::from_str(&verify(&db, &["--json"]).stdout).unwrap();
    assert_eq!((&json["equal"], json["days"].as_array().unwrap().len()), (&false.into(), 5));
    // Another part is not touched.
    let part = verify(&db, &["--to", "2026-04-30", "--repair"]);
    assert!(
        part.status.code() == Some(0) && part.stderr.contains("3 sums by day differed"),
        "{}",
        part.stderr
    );
    assert_eq!(db.count("select count(*) from vobiz.rollup_day where customer = 'Nobody'").await, 2);
    assert_eq!(verify(&db, &["--repair"]).status.code(), Some(0));
    assert_eq!((db.text(bill).await, verify(&db, &[]).status.code(), drift(&db).await), (right, Some(0), 0));
    let audited = "select concat_ws(' ', account_id, detail->>'day', detail->'was'->>'calls', detail->'is'->>'calls', detail->'is'->>'total_cost')
                   from vobiz.audit where action = 'rollup_repaired' order by id";
    assert_eq!(
        db.texts(audited).await,
        [
            "MA_0 2026-03-02 12 12 1.2",
            "MA_0 2026-03-03 0 12 1.2",
            "MA_1 2026-03-03 0 12 1.2",
            "MA_0 2026-05-01 7 0 0",
            "MA_1 2026-05-01 7 0 0"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repairing_beside_writers_makes_it_right_and_keeps_what_they_wrote() {
    let db = Arc::new(Database::new().await);
    let over = Arc::new(AtomicBool::new(false));
    db.run(&insert("select 'c' || i, 'MA_A', 't', timestamptz '2026-03-01Z' + i * interval '1 s', i, 0.10 from generate_series(1, 2000) i")).await;
    db.run("update vobiz.rollup_delta set cost = cost + 1, calls = calls + 1").await;
    fold(&db, 2).await;
    db.run("update vobiz.rollup_day set cost = cost + 5").await;
    let (other, told) = (Arc::clone(&db), Arc::clone(&over));
    let writer = tokio::spawn(async move {
        let mut n = 0;
        while !told.load(Ordering::Relaxed) {
            n += 1;
            other
                .run(&insert(&format!("values ('w{n}', 'MA_A', 't', timestamptz '2026-03-01Z', {n}, {n}.5)")))
                .await;
            other
                .run(&format!(
                    "update vobiz.cdr set total_cost = total_cost + 0.01 where call_id = 'c{}'",
                    n % 2000
                ))
                .await;
            fold(&other, 5).await;
        }
    });
    let clone = Arc::clone(&db);
    let repaired = tokio::task::spawn_blocking(move || verify(&clone, &["--repair"])).await.unwrap();
    assert!(
        repaired.stderr.contains("calls differed and were repaired")
            && repaired.stderr.contains("by day differed from the quarters of the day"),
        "{}",
        repaired.stderr
    );
    over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert_eq!(drift(&db).await, 0);
}
