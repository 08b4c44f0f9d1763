//! What is settled is what is billed: each listed call in its day, and the sums of the bill equal to their calls.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;
use vobiz_cdr::db::bill::proof::{self, ProofStep};
use vobiz_cdr::db::bill::rollup::VerifyScope;
use vobiz_cdr::db::ledger::settled::compare;
use vobiz_cdr::simulator::{CallSpec, DayOf, SimulatorOptions};

use super::settled::settled_days;
use super::{at, check, hurry, ledger_world, safe_to, settled_day, states};
use crate::db::bill::{drift, fold, insert};
use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{program, run};
use crate::support::wait::until;
use crate::support::world::{World, options};

/// A call that lasts `seconds` up to an end; fields of its CDR as they are set.
fn ending(world: &World, ended: DateTime<Utc>, seconds: i64, set: &[(&str, &str)]) -> String {
    let spec = CallSpec {
        started_at: Some(ended - TimeDelta::seconds(seconds)),
        ended_at: Some(ended),
        ring_time: Some(10),
        billsec: Some(50),
        cost: Some("0.45".parse().unwrap()),
        streaming_cost: Some("0".parse().unwrap()),
        set: set
            .iter()
            .map(|(key, json)| ((*key).to_owned(), Some((*json).to_owned())))
            .collect::<BTreeMap<_, _>>(),
        ..CallSpec::default()
    };
    world.vobiz.place_call(spec).call_id
}

/// The first day of a ledger, of a provider that cuts days by the end of a call.
async fn by_end() -> (World, DateTime<Utc>) {
    let (world, began) =
        ledger_world(SimulatorOptions { day_zone: 330, day_of: DayOf::End, ..options() }).await;
    // Calls over both midnights say that it is the end that counts.
    for hours in [-0.01, 3.0, 12.0, 23.99] {
        at(&world, began, hours);
    }
    (world, began)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_settles_only_if_each_listed_call_is_billed_in_it() {
    for (seconds, set) in [
        // Longer than its record says, and a start of another month beside a right end.
        (5 * 3600, vec![]),
        (60, vec![("start_time", "\"2026-01-15T08:00:00Z\"")]),
        (60, vec![("start_time", "\"2025-11-30T08:00:00+05:30\""), ("created_at", "null")]),
    ] {
        let (world, began) = by_end().await;
        let call = ending(&world, began + TimeDelta::minutes(30), seconds, &set);
        world.sweep().await;
        check(&world).await;
        hurry(&world).await;
        check(&world).await;
        let first = states(&world).await.remove(0);
        let day = (began + TimeDelta::minutes(330)).date_naive();
        let billed = world
            .text(&format!("select (day_at at time zone 'Asia/Kolkata')::date::text from vobiz.cdr where call_id = '{call}'"))
            .await;
        let says = format!(
            "1 call is listed in one day and billed in another: {call} (listed {day}, billed {billed})"
        );
        assert!(first.starts_with("differs") && first.contains(&says), "{first} {set:?}");
        let found = world
            .text("select concat_ws(' ', kind, field, here, there) from vobiz.ledger_difference where kind = 'billed_elsewhere' limit 1")
            .await;
        assert_eq!(found, format!("billed_elsewhere day {billed} {day}"));
        assert_eq!(
            world.text("select billed_elsewhere::text from vobiz.ledger_day order by day limit 1").await,
            "1"
        );
        assert_eq!(safe_to(&world).await.0, began, "the bill goes no further");
        world.vobiz.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_midnight_is_billed_by_its_start_and_listed_by_its_end() {
    let (world, began) = by_end().await;
    ending(&world, began + TimeDelta::minutes(30), 3 * 3600, &[]);
    world.sweep().await;
    check(&world).await;
    hurry(&world).await;
    check(&world).await;
    let first = states(&world).await.remove(0);
    assert!(first.starts_with("settled"), "{first}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_any_length_settles_its_day_if_its_record_bears_it_out() {
    for hours in [5, 30, 80] {
        let (world, began) = by_end().await;
        let ended = began + TimeDelta::minutes(30);
        let call = world
            .vobiz
            .place_call(CallSpec {
                started_at: Some(ended - TimeDelta::hours(hours)),
                ended_at: Some(ended),
                ring_time: Some(10),
                billsec: Some(u32::try_from(hours * 3600 - 10).unwrap()),
                ..CallSpec::default()
            })
            .call_id;
        world.sweep().await;
        check(&world).await;
        hurry(&world).await;
        check(&world).await;
        let first = states(&world).await.remove(0);
        assert!(first.starts_with("settled"), "{hours} {first}");
        let (days, _) = settled_days(&world.database).await;
        assert!(days >= 2, "{days}");
        assert_ne!(safe_to(&world).await.0, began, "{hours}");
        // It is missed where it is lost …
        let lost = format!(
            "begin; set local session_replication_role = replica; delete from vobiz.cdr where call_id = '{call}'; commit"
        );
        world.database.run(&lost).await;
        let found =
            compare(&mut *world.database.connection().await, None, None, None).await.unwrap().differences;
        assert_eq!(found.len(), 1, "{hours} {found:?}");
        // … and what is here alone is found, too.
        world
            .database
            .run(&format!(
                "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, end_time, duration)
                 select 'long-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                        timestamptz '{0}' - interval '{hours} hours', timestamptz '{0}', {hours} * 3600 from vobiz.cdr limit 1",
                (began + TimeDelta::hours(2)).to_rfc3339()
            ))
            .await;
        world
            .database
            .run("update vobiz.provider_day set check_at = vobiz.now() where checked_at is not null")
            .await;
        check(&world).await;
        let first = states(&world).await.into_iter().find(|state| state.contains("long-alone"));
        assert!(
            first.as_ref().is_some_and(|state| state.contains("missing at Vobiz: long-alone")),
            "{hours} {first:?}"
        );
        world.vobiz.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_far_outside_the_day_teaches_nothing_of_the_zone() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    for hours in [0.01, 5.0, 18.4, 23.9] {
        at(&world, began, hours);
    }
    // Its end belongs to another year, and its start, which decides, is right.
    ending(&world, began + TimeDelta::hours(4), 60, &[("end_time", "\"2025-02-01T00:00:00Z\"")]);
    world.sweep().await;
    check(&world).await;
    let zone = world.text("select concat_ws(' ', day_of, day_offset) from vobiz.account").await;
    assert_eq!(zone, "start_time", "as in the billing zone");
    let bound = world
        .text("select (least > interval '-1 day' and most < interval '2 days')::text from vobiz.provider_day_bound where day_of = 'end_time'")
        .await;
    assert_eq!(bound, "true");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_whose_sums_do_not_equal_its_calls_does_not_settle() {
    let (world, began, _) = settled_day().await;
    assert_ne!(safe_to(&world).await.0, began);
    let wrong = [
        // What a restore into a migrated database leaves, what a hand does, and what a session without triggers leaves out.
        "insert into vobiz.rollup_delta select * from vobiz.rollup_base",
        "update vobiz.rollup_day set total_cost = total_cost + 1",
        "begin; set local session_replication_role = replica; update vobiz.cdr set billsec = billsec + 60, duration = duration + 60; commit",
    ];
    for (place, damage) in wrong.into_iter().enumerate() {
        fold(&world.database, 1000).await;
        world.database.run(damage).await;
        world.database.run("update vobiz.provider_day set check_at = vobiz.now(), reopened_at = vobiz.now() where state = 'settled'").await;
        check(&world).await;
        let first = states(&world).await.remove(0);
        assert!(
            first.starts_with("differs") && first.contains("not equal the calls in the bill"),
            "{damage}: {first}"
        );
        let (safe, held_by) = safe_to(&world).await;
        assert!(safe <= began && held_by.contains("does not equal its calls"), "{damage}: {safe} {held_by}");
        let sums = "select count(*) from vobiz.ledger_difference d where d.kind = 'sums' and d.check_id = (select check_id from vobiz.ledger_day order by day limit 1)";
        assert!(world.database.count(sums).await > 0);

        let repaired = run(program(&["verify", "--repair"]).env("DATABASE_URL", &world.database.url));
        assert_eq!(repaired.status.code(), Some(0), "{}", repaired.stderr);
        assert_eq!(drift(&world.database).await, 0);
        assert_eq!(world.database.count("select count(*) from vobiz.wrong_sum").await, 0);
        if place < 2 {
            hurry(&world).await;
            check(&world).await;
            assert!(states(&world).await[0].starts_with("settled"));
            assert_ne!(safe_to(&world).await.0, began);
        }
    }
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sum_holds_back_the_bill_of_its_day_and_no_earlier_one_and_none_before_the_ledger() {
    let (world, began, _) = settled_day().await;
    let before = safe_to(&world).await;
    let day = |days: i64| (began + TimeDelta::minutes(330) + TimeDelta::days(days)).date_naive();
    let note = async |owner: &str, days: i64| {
        world.database.run("delete from vobiz.wrong_sum").await;
        world
            .database
            .run(&format!(
                "insert into vobiz.wrong_sum (account_id, day, sums) values ('{owner}', '{}', 2)",
                day(days)
            ))
            .await;
        safe_to(&world).await
    };
    // An owner that is not configured, and that has no call left, is on the bill of the account.
    for owner in [ACCOUNT, "SA_GONE"] {
        let (safe, held_by) = note(owner, 0).await;
        assert_eq!(safe, began, "{owner}");
        assert!(held_by.contains("`vobiz-cdr verify --repair`"), "{held_by}");
        assert_eq!(note(owner, -1).await, before, "{owner}: nobody was promised that day");
    }
    world.database.run("insert into vobiz.account (account_id) values ('MA_OTHER')").await;
    note("MA_OTHER", 0).await;
    let ours = format!(
        "select to_char(safe_to at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from vobiz.safe_to_bill where account_id = '{ACCOUNT}'"
    );
    let there: DateTime<Utc> = world.text(&format!("select ({ours})")).await.parse().unwrap();
    assert_eq!(there, before.0, "another account's");
    world.end().await;
}

#[tokio::test]
async fn two_proofs_at_once_say_what_the_later_one_saw() {
    let db = Database::new().await;
    db.run(&insert("select 'c', 'MA_A', 't', timestamptz '2026-03-01 10:00Z', 30, 0.10")).await;
    db.run("update vobiz.rollup_delta set total_cost = 7").await;
    let accounts = ["MA_A".to_owned()];
    let scope = VerifyScope { accounts: Some(&accounts), ..VerifyScope::default() };
    let mut first = db.connection().await;
    let mut transaction = first.begin().await.unwrap();
    assert_eq!(proof::prove(&mut transaction, scope).await.unwrap().len(), 1);
    let second = async {
        let mut connection = db.connection().await;
        let mut transaction = connection.begin().await.unwrap();
        let wrong = proof::prove(&mut transaction, scope).await.unwrap().len();
        transaction.commit().await.unwrap();
        wrong
    };
    // It waits for the first, which meanwhile sees the sum repaired by another hand.
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let release = async {
        until("the second proof waits", async || db.count(waits).await == 1).await;
        db.run("update vobiz.rollup_delta set total_cost = 0.10").await;
        transaction.commit().await.unwrap();
    };
    let (wrong, ()) = tokio::join!(second, release);
    assert_eq!(wrong, 0);
    assert_eq!(db.count("select count(*) from vobiz.wrong_sum").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_triggers_hold_the_bill_back_while_they_are_disabled() {
    let (world, began, _) = settled_day().await;
    let before = safe_to(&world).await;
    for off in [
        "alter table vobiz.cdr disable trigger all",
        "alter table vobiz.cdr enable replica trigger roll_up_insert",
    ] {
        world.database.run(off).await;
        let (safe, held_by) = safe_to(&world).await;
        assert_eq!(safe, began, "{off}");
        assert!(
            held_by
                .starts_with("triggers are disabled, so bill, versions and days do not follow the calls: "),
            "{held_by}"
        );
        world.database.run("alter table vobiz.cdr enable trigger all").await;
        assert_eq!(safe_to(&world).await, before);
    }
    world.end().await;
}

#[tokio::test]
async fn the_proof_of_all_sums_is_due_although_the_last_one_ended_in_the_future() {
    let db = Database::new().await;
    let mut connection = db.connection().await;
    while !matches!(proof::prove_next_day(&mut connection).await.unwrap(), ProofStep::Finished(_)) {}
    assert!(!proof::is_due(&mut connection).await.unwrap());
    for (ahead, is_due) in [("20 seconds", false), ("2 hours", true)] {
        db.run(&format!("update vobiz.task set finished_at = vobiz.now() + interval '{ahead}'")).await;
        assert_eq!(proof::is_due(&mut connection).await.unwrap(), is_due, "{ahead}");
    }
}

/// Proves days until there is none left; each with how many of its sums are wrong.
async fn prove_all(db: &Database) -> Vec<(String, usize)> {
    let mut proved = Vec::new();
    loop {
        let mut connection = db.connection().await;
        let mut transaction = connection.begin().await.unwrap();
        let step = proof::prove_next_day(&mut transaction).await.unwrap();
        if let ProofStep::Proved(day, wrong) = step {
            if wrong > 0 {
                // Again until that is said.
                assert_eq!(proof::prove_next_day(&mut transaction).await.unwrap(), step);
            }
            proof::advance(&mut transaction, day, wrong).await.unwrap();
        }
        transaction.commit().await.unwrap();
        match step {
            ProofStep::Proved(day, wrong) => proved.push((day.to_string(), wrong)),
            ProofStep::Finished(days) => {
                assert_eq!(days, proved.len() as u64);
                return proved;
            }
            ProofStep::NotDue => panic!("it was due: {proved:?}"),
        }
    }
}

#[tokio::test]
async fn all_sums_are_proved_once_a_day_in_steps() {
    let db = Database::new().await;
    assert_eq!(prove_all(&db).await, []);
    db.advance_clock(TimeDelta::days(2)).await;
    db.run(&insert("select 'c' || i, 'MA_' || i % 2, 't', timestamptz '2026-03-01 10:00Z' + i / 4 * interval '3 days', i, 0.10 from generate_series(0, 11) i")).await;
    fold(&db, 1000).await;
    db.run(&insert("select 'later', 'MA_2', 't', timestamptz '2026-04-01 23:00Z', 5, 0.10")).await;
    let days = |wrong: [usize; 4]| {
        let days = ["2026-03-01", "2026-03-04", "2026-03-07", "2026-04-02"];
        days.into_iter().map(str::to_owned).zip(wrong).collect::<Vec<_>>()
    };
    assert_eq!(prove_all(&db).await, days([0; 4]));

    // Again only a day later, and by then something went past the triggers.
    let mut connection = db.connection().await;
    assert_eq!(proof::prove_next_day(&mut connection).await.unwrap(), ProofStep::NotDue);
    // What was restored from another database brings along that it was proved there.
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("update vobiz.task set detail = '{\"database\":\"another\"}' where name = 'prove sums'")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let step = proof::prove_next_day(&mut transaction).await.unwrap();
    assert!(matches!(step, ProofStep::Proved(..)), "{step:?}");
    transaction.rollback().await.unwrap();
    drop(connection);
    db.run("update vobiz.rollup set billsec = billsec - 1 where bucket < '2026-03-02' and account_id = 'MA_1' and answered").await;
    db.run("insert into vobiz.rollup_delta values ('MA_9', 'unassigned', '2026-05-01Z', null, null, false, 7, 0, 0, 0, 0, 0, 0, 0, 7)").await;
    db.advance_clock(TimeDelta::hours(25)).await;
    let proved = prove_all(&db).await;
    assert_eq!(proved.len(), 5, "{proved:?}");
    assert!(
        proved[0].1 > 0 && proved[1..4].iter().all(|(_, wrong)| *wrong == 0) && proved[4].1 > 0,
        "{proved:?}"
    );
    let wrong = "select account_id || ' ' || day from vobiz.wrong_sum order by day";
    assert_eq!(db.texts(wrong).await, ["MA_1 2026-03-01", "MA_9 2026-05-01"]);
    let seen = proof::read(&mut *db.connection().await).await.unwrap();
    assert_eq!((seen.wrong.len(), seen.disabled_triggers.len()), (2, 0));
    assert!(seen.wrong_sums >= 2 && seen.proved_at.is_some());
    assert_eq!(db.count("select count(*) from vobiz.task").await, 1);

    // What has no call and no sum any more is looked at all the same, and forgotten.
    db.run("update vobiz.wrong_sum set found_at = '2026-01-01'").await;
    db.run("insert into vobiz.wrong_sum (account_id, day, sums) values ('MA_GONE', '2031-01-01', 3)").await;
    db.advance_clock(TimeDelta::hours(25)).await;
    assert_eq!(prove_all(&db).await.last().unwrap(), &("2031-01-01".to_owned(), 0));
    assert_eq!(db.texts(wrong).await, ["MA_1 2026-03-01", "MA_9 2026-05-01"]);
    assert_eq!(
        db.count("select count(*) from vobiz.wrong_sum where found_at = '2026-01-01'").await,
        2,
        "as found first"
    );

    // Repaired, a part of them, and what was wrong there is forgotten.
    let repaired = run(program(&["verify", "--repair", "--account", "MA_1"]).env("DATABASE_URL", &db.url));
    assert_eq!(repaired.status.code(), Some(0), "{}", repaired.stderr);
    assert_eq!(db.texts(wrong).await, ["MA_9 2026-05-01"]);
}
