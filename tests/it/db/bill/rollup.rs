//! The sums beside the calls: whatever happens, in whatever order, they equal what the calls add up to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use vobiz_cdr::db::base::migration;
use vobiz_cdr::db::bill::rollup;

use super::{ZONES, drift, fold, insert, refusal, rule, set_zone, try_run};
use crate::support::calls::{listed, plain, single};
use crate::support::database::Database;
use crate::support::wait::{LIMIT, until_is};

/// A version of a call: the call, minute of its update, hour of its start, seconds, thousandths of its cost, whether in rupees, and
/// whether it is a single record.
type Version = (u8, u8, u8, Option<u16>, Option<u16>, bool, bool);

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A group of versions of calls comes through the upsert.
    Upsert(Vec<Version>),
    Delete(u8),
    /// By hand: the start of a call, or its trunk.
    Move(u8, u8),
    Trunk(u8, Option<u8>),
    Rule(u8, u8, u8, u8, u8),
    EndRule(u8),
    DropRule(u8),
    Fold(u8),
    Zone(u8),
    /// A folding that is not committed.
    Break,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let version = (
        0u8..12,
        0u8..9,
        0u8..50,
        proptest::option::of(0u16..200),
        proptest::option::of(0u16..500),
        any::<bool>(),
        any::<bool>(),
    );
    let step = prop_oneof![
        5 => proptest::collection::vec(version, 1..9).prop_map(Step::Upsert),
        1 => (0u8..12).prop_map(Step::Delete),
        1 => (0u8..12, 0u8..50).prop_map(|(call, hour)| Step::Move(call, hour)),
        1 => (0u8..12, proptest::option::of(0u8..3)).prop_map(|(call, trunk)| Step::Trunk(call, trunk)),
        3 => (0u8..4, 0u8..3, 0u8..3, 0u8..50, 1u8..40).prop_map(|(f, v, c, from, long)| Step::Rule(f, v, c, from, long)),
        1 => (1u8..20).prop_map(Step::EndRule),
        1 => (1u8..20).prop_map(Step::DropRule),
        2 => (1u8..9).prop_map(Step::Fold),
        1 => (0u8..6).prop_map(Step::Zone),
        1 => Just(Step::Break),
    ];
    proptest::collection::vec(step, 1..25)
}

async fn take(db: &Database, step: &Step) {
    let now = db.now().await;
    match step {
        Step::Upsert(versions) => {
            let rows: Vec<_> = versions
                .iter()
                .map(|(call, minute, hour, seconds, paise, rupees, complete)| {
                    let seconds = seconds.map_or(String::new(), |s| format!(r#""billsec":{s},"duration":{},"#, s + 9));
                    let cost = paise.map_or(String::new(), |p| {
                        format!(r#""cost":{call}.{p:03},"total_cost":{call}.{p:03}1,"#)
                    });
                    let currency = if *rupees { "INR" } else { "USD" };
                    let body = format!(
                        r#"{{"uuid":"call-{call}","updated_at":"2026-03-25T10:{minute:02}:00Z",{seconds}{cost}"currency":"{currency}",
                            "start_time":"2026-03-{:02}T{:02}:14:59Z","trunk_id":"{}","campaign_id":"{}","call_direction":"outbound",
                            "caller_id_number":"+91804000000{}"}}"#,
                        1 + hour / 24,
                        hour % 24,
                        call % 3,
                        call % 2,
                        call % 3,
                    );
                    let asked = now + TimeDelta::seconds(i64::from(*minute));
                    if *complete { single(&body, asked) } else { listed(&body, asked) }
                })
                .collect();
            db.upsert(&rows.iter().collect::<Vec<_>>()).await;
        }
        Step::Delete(call) => db.run(&format!("delete from vobiz.cdr where call_id = 'call-{call}'")).await,
        Step::Move(call, hour) => {
            db.run(&format!(
                "update vobiz.cdr set start_time = timestamptz '2026-03-01Z' + {hour} * interval '61 min', cost = cost + 0.00001
                 where call_id >= 'call-{call}'"
            ))
            .await;
        }
        Step::Trunk(call, trunk) => {
            let trunk = trunk.map_or("null".into(), |trunk| format!("'{trunk}'"));
            db.run(&format!("update vobiz.cdr set trunk_id = {trunk} where call_id = 'call-{call}'")).await;
        }
        Step::Rule(field, value, customer, from, long) => {
            let (field, value) = match field {
                0 => ("our_number", format!("+91804000000{value}")),
                1 => ("campaign_id", value.to_string()),
                2 => ("trunk_id", value.to_string()),
                _ => ("account_id", "MA_TESTAB12".to_owned()),
            };
            // One that overlaps is refused, and changes nothing.
            let _ = try_run(
                &db.pool,
                &format!(
                    "insert into vobiz.customer_rule (field, value, customer, valid_from, valid_to)
                     values ('{field}', '{value}', 'customer {customer}', timestamptz '2026-03-01Z' + {from} * interval '1 hour',
                             timestamptz '2026-03-01Z' + ({from} + {long}) * interval '1 hour')"
                ),
            )
            .await;
        }
        Step::EndRule(id) => {
            db.run(&format!(
                "update vobiz.customer_rule set valid_to = valid_from + (valid_to - valid_from) / 2, customer = customer || 'x' where id >= {id}"
            ))
            .await;
        }
        Step::DropRule(id) => {
            db.run(&format!("delete from vobiz.customer_rule where id % 4 = {id} % 4")).await;
        }
        Step::Fold(most) => drop(fold(db, i64::from(*most)).await),
        Step::Zone(zone) => db.run(&set_zone(ZONES[usize::from(*zone)])).await,
        Step::Break => {
            let mut connection = db.connection().await;
            let mut transaction = connection.begin().await.unwrap();
            rollup::fold(&mut transaction, 100).await.unwrap();
            transaction.rollback().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_calls_and_rules_the_sums_are_those_of_the_calls() {
    let db = Database::new().await;
    let handle = tokio::runtime::Handle::current();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let result = runner.run(&steps(), |steps| {
        tokio::task::block_in_place(|| {
            handle.block_on(async {
                for (n, step) in steps.iter().enumerate() {
                    take(&db, step).await;
                    prop_assert_eq!(drift(&db).await, 0, "after step {} of {:?}", n, steps);
                }
                db.run("delete from vobiz.cdr").await;
                while fold(&db, 1000).await > 0 {}
                let left = "select (select count(*) from vobiz.rollup_part) + (select count(*) from vobiz.rollup_day)";
                prop_assert_eq!(db.count(left).await, 0, "{:?}", steps);
                prop_assert_eq!(db.count("select count(*) from vobiz.billing_day").await, 0);
                Ok(())
            })
        })
    });
    result.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_instant_of_writing_folding_new_rules_and_other_zones_the_sums_are_those_of_the_calls() {
    let db = Arc::new(Database::new().await);
    let over = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for writer in 0..4 {
        let (db, over) = (Arc::clone(&db), Arc::clone(&over));
        workers.push(tokio::spawn(async move {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                // New ones, some of them everybody's; changed ones; and deleted ones.
                let query = format!(
                    "select 'call-' || i % 3 * {writer} || '-' || i, 'account ' || i % 2, i % 5 || '', timestamptz '2026-03-01Z' + i % 40 * interval '7 min',
                            i % 100, i * 0.001 from generate_series({n} * 20, {n} * 20 + 50) i order by 1"
                );
                let sql = match n % 4 {
                    0..2 => insert(&query) + " on conflict (call_id) do update set total_cost = excluded.total_cost + 1, trunk_id = '9'",
                    2 => format!(
                        "with chosen as (select call_id from vobiz.cdr where billsec % 7 = {writer} order by call_id for update)
                         update vobiz.cdr set total_cost = total_cost + 0.01, billsec = billsec + 40, start_time = start_time + interval '3 min'
                         where call_id in (select call_id from chosen)"
                    ),
                    _ => format!(
                        "with chosen as (select call_id from vobiz.cdr where billsec % 11 = {writer} order by call_id for update)
                         delete from vobiz.cdr where call_id in (select call_id from chosen)"
                    ),
                };
                match try_run(&db.pool, &sql).await {
                    Ok(()) => {}
                    Err(error) => assert_eq!(vobiz_cdr::db::fault(&error), vobiz_cdr::db::Fault::Retry, "{error}"),
                }
            }
        }));
    }
    for _ in 0..2 {
        let (db, over) = (Arc::clone(&db), Arc::clone(&over));
        workers.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                fold(&db, 7).await;
            }
        }));
    }
    let (rules, told) = (Arc::clone(&db), Arc::clone(&over));
    workers.push(tokio::spawn(async move {
        let mut n = 0;
        while !told.load(Ordering::Relaxed) {
            n += 1;
            let sql = match n % 3 {
                0 => "delete from vobiz.customer_rule".to_owned(),
                1 => rule("trunk_id", &(n % 5).to_string(), "Asha"),
                _ => rule("account_id", &format!("account {}", n % 2), "Ravi"),
            };
            rules.run(&sql).await;
        }
    }));
    let (zones, told) = (Arc::clone(&db), Arc::clone(&over));
    workers.push(tokio::spawn(async move {
        let mut n = 0;
        while !told.load(Ordering::Relaxed) {
            n += 1;
            zones.run(&set_zone(ZONES[n % ZONES.len()])).await;
            // Folding does not wait for it.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }));
    let mut compared = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    let folded = "select count(*) from vobiz.rollup_day";
    // On a busy machine it takes longer until there is something to compare.
    while tokio::time::Instant::now() < until || compared <= 5 || db.count(folded).await == 0 {
        assert!(tokio::time::Instant::now() < until + LIMIT, "{compared} comparisons, and nothing is folded");
        assert_eq!(drift(&db).await, 0, "after {compared} comparisons");
        compared += 1;
    }
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(drift(&db).await, 0);
    assert!(db.count("select count(*) from vobiz.cdr").await > 0);
}

#[tokio::test]
async fn a_database_with_another_default_isolation_keeps_its_bill() {
    let db = Database::new().await;
    db.run(
        "do $$ begin
           execute format('alter database %I set default_transaction_isolation = ''repeatable read''', current_database());
         end $$",
    )
    .await;
    let asked = "select current_setting('transaction_isolation')";
    let mut theirs = db.url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let theirs: String = sqlx::query_scalar(asked).fetch_one(&mut theirs).await.unwrap();
    assert_eq!(theirs, "repeatable read");
    let pool = vobiz_cdr::db::connect(&db.url, "test", 1).unwrap();
    let ours: String = sqlx::query_scalar(asked).fetch_one(&pool).await.unwrap();
    assert_eq!(ours, "read committed");
    try_run(&pool, &insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01Z', 5, 1)")).await.unwrap();
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn an_answer_that_only_confirms_a_call_writes_no_delta() {
    let db = Database::new().await;
    let now = db.now().await;
    let calls: Vec<_> = (0..50).map(|n| plain(&format!("call-{n}"), now)).collect();
    db.upsert(&calls.iter().collect::<Vec<_>>()).await;
    assert_eq!(db.count("select count(*) from vobiz.rollup_delta").await, 1, "fifty calls, one key");
    let again: Vec<_> = (0..50).map(|n| plain(&format!("call-{n}"), now + TimeDelta::hours(1))).collect();
    db.upsert(&again.iter().collect::<Vec<_>>()).await;
    assert_eq!(db.count("select count(*) from vobiz.rollup_delta").await, 1);
    assert_eq!(fold(&db, 100).await, 1);
    assert_eq!(db.count("select calls from vobiz.rollup").await, 50);
}

#[tokio::test]
async fn a_folding_that_is_killed_loses_nothing() {
    let db = Database::new().await;
    db.run(&insert("select 'c' || i, 'MA_A', 't', timestamptz '2026-03-01Z' + i * interval '1 h', i, 0.1 from generate_series(1, 50) i")).await;
    let bill = "select sum(total_cost)::text || ' ' || sum(calls) from vobiz.billing_month";
    assert_eq!(db.text(bill).await, "5.0 50");
    // Killed within its statement: a row that it waits for is held here, of the one table and of the other.
    fold(&db, 10).await;
    let mut blocker = db.connection().await;
    for (table, total) in [("rollup", "55.0 50"), ("rollup_day", "105.0 50")] {
        let mut holding = blocker.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("select from vobiz.{table} for update")))
            .execute(&mut *holding)
            .await
            .unwrap();
        db.run("update vobiz.cdr set total_cost = total_cost + 1").await;
        let pool = db.pool.clone();
        let folding =
            tokio::spawn(async move { rollup::fold(&mut pool.acquire().await.unwrap(), 1000).await });
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where wait_event_type = 'Lock' and query like '%insert into vobiz.rollup as r%' and datname = current_database()";
        let database = &db;
        until_is("the folding is killed", 1, async || database.count(kill).await).await;
        assert!(folding.await.unwrap().is_err());
        holding.rollback().await.unwrap();
        assert_eq!((db.text(bill).await, drift(&db).await), (total.to_owned(), 0), "{table}");
    }
    while fold(&db, 1000).await > 0 {}
    assert_eq!((db.text(bill).await, drift(&db).await), ("105.0 50".to_owned(), 0));
    assert_eq!(db.count("select count(*) from vobiz.rollup_delta").await, 0);
}

#[tokio::test]
async fn calls_from_before_the_triggers_are_in_the_sums() {
    let db = Database::new().await;
    // As if the calls had come before the text of triggers and functions was applied.
    db.run("alter table vobiz.cdr disable trigger user").await;
    db.run(&insert("select 'c' || i, 'MA_A', 't', timestamptz '2026-03-01Z' + i * interval '1 h', i, 0.1 from generate_series(1, 50) i")).await;
    db.run("alter table vobiz.cdr enable trigger user; delete from vobiz.repeatable").await;
    assert_eq!(db.count("select count(*) from vobiz.rollup_part").await, 0);
    migration::apply(&db.pool, LIMIT).await.unwrap();
    assert_eq!(db.count("select sum(calls)::bigint from vobiz.rollup").await, 50);
    assert_eq!(db.count("select sum(calls)::bigint from vobiz.rollup_day").await, 50);
    assert_eq!(db.text("select total_cost::text from vobiz.billing_month").await, "5.0");
    db.run("delete from vobiz.cdr where call_id = 'c1'").await;
    assert_eq!(drift(&db).await, 0);
    // Once there are sums, the text leaves them alone.
    db.run("delete from vobiz.repeatable").await;
    migration::apply(&db.pool, LIMIT).await.unwrap();
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn an_amount_that_is_no_number_never_gets_into_the_sums() {
    let db = Database::new().await;
    for amount in ["NaN", "Infinity", "-Infinity"] {
        let said = refusal(
            &db,
            &insert(&format!("values ('c', 'MA_A', 't', timestamptz '2026-03-01Z', 5, numeric '{amount}')")),
        )
        .await;
        assert!(said.contains("amounts_are_numbers"), "{said}");
    }
    let said = refusal(&db, &insert("values ('c', 'MA_A', 't', timestamptz 'infinity', 5, 1)")).await;
    assert!(said.contains("bucket_is_a_time"), "{said}");
}
