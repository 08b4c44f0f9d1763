//! The sums beside the calls: whatever happens, in whatever order, they equal what the calls add up to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use vobiz_cdr::db::base::migration;
use vobiz_cdr::db::bill::rollup;

use crate::support::calls::{listed, plain, single};
use crate::support::database::Database;
use crate::support::process::{Finished, program, run};
use crate::support::world::eventually;

/// Keys whose sums are not those of their calls, by quarter of an hour and by day of the billing zone, in one snapshot. Written out
/// here once more, from vobiz.cdr alone.
const DRIFT: &str = "
    with call as (
      select account_id, vobiz.customer_of(account_id, trunk_id, campaign_id, our_number, day_at) as customer,
             to_timestamp(floor(extract(epoch from day_at) / 900) * 900) as bucket, currency, call_direction,
             billsec is not null and billsec > 0 as answered, 1 as calls, coalesce(duration, 0) as duration, coalesce(billsec, 0) as billsec,
             ceil(coalesce(billsec, 0) / 60.0) as pulse_minutes, coalesce(cost, 0) as cost, coalesce(streaming_cost, 0) as streaming_cost,
             coalesce(total_cost, 0) as total_cost, coalesce((total_cost > 0)::int, 0) as with_cost, (total_cost is null)::int as without_cost
      from vobiz.cdr
    ), side as (
      select 1 as sign, account_id, customer, bucket::text as at, currency, call_direction, answered, calls, duration, billsec, pulse_minutes,
             cost, streaming_cost, total_cost, with_cost, without_cost
      from vobiz.rollup_part
      union all
      select 1, account_id, customer, day::text, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
             streaming_cost, total_cost, with_cost, without_cost
      from vobiz.rollup_day_part
      union all
      select -1, account_id, customer, at, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
             streaming_cost, total_cost, with_cost, without_cost
      from call cross join vobiz.setting
      cross join lateral (values (bucket::text), ((bucket at time zone billing_zone)::date::text)) as x (at)
    )
    select count(*) from (
      select from side group by account_id, customer, at, currency, call_direction, answered
      having (sum(sign * calls), sum(sign * duration), sum(sign * billsec), sum(sign * pulse_minutes), sum(sign * cost),
              sum(sign * streaming_cost), sum(sign * total_cost), sum(sign * with_cost), sum(sign * without_cost))
             <> (0, 0, 0, 0, 0, 0, 0, 0, 0)) wrong";

/// Zones in which the same calls lie in other days.
const ZONES: [&str; 6] = [
    "Asia/Kolkata",
    "UTC",
    "America/Los_Angeles",
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
];

async fn drift(db: &Database) -> i64 {
    db.count(DRIFT).await
}

async fn fold(db: &Database, most: i64) -> u64 {
    rollup::fold(&mut *db.connection().await, most).await.unwrap()
}

async fn try_run(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.map(drop)
}

/// What Postgres says against a statement.
async fn refusal(db: &Database, sql: &str) -> String {
    try_run(&db.pool, sql).await.expect_err("it was taken").to_string()
}

/// Inserts calls by a query that gives id, account, trunk, start, seconds talked and cost.
fn insert(query: &str) -> String {
    format!(
        "insert into vobiz.cdr (call_id, account_id, trunk_id, start_time, billsec, total_cost, listed_by, origin, attempts, fetched_at,
                                revision, content_hash, duration, cost, currency, call_direction, caller_e164)
         select *, 'a', 'manual', 0, now(), 1, sha256(''), 70, total_cost, 'INR', 'outbound', '+9180' || billsec from ({query})
           as q (call_id, account_id, trunk_id, start_time, billsec, total_cost)"
    )
}

fn set_zone(zone: &str) -> String {
    format!("update vobiz.setting set billing_zone = '{zone}'")
}

fn rule(field: &str, value: &str, customer: &str) -> String {
    format!(
        "insert into vobiz.customer_rule (field, value, customer) values ('{field}', '{value}', '{customer}')"
    )
}

/// A version of a call: the call, minute of its update, hour of its start, seconds, thousandths of its cost, whether in rupees, and
/// whether it is a single record.
type Version = (u8, u8, u8, Option<u16>, Option<u16>, bool, bool);

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A group of versions of calls comes through the front door.
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
    let mut looked = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    while tokio::time::Instant::now() < until {
        assert_eq!(drift(&db).await, 0, "after {looked} looks");
        looked += 1;
    }
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(drift(&db).await, 0);
    assert!(looked > 5 && db.count("select count(*) from vobiz.cdr").await > 0);
    assert!(db.count("select count(*) from vobiz.rollup_day").await > 0, "something was folded");
}

#[tokio::test]
async fn a_call_that_is_stored_while_a_rule_changes_falls_under_the_rule() {
    let db = Database::new().await;
    let mut writer = db.connection().await;
    let mut storing = writer.begin().await.unwrap();
    let one = insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01Z', 5, 1)");
    sqlx::raw_sql(AssertSqlSafe(one)).execute(&mut *storing).await.unwrap();

    let pool = db.pool.clone();
    let ruling = tokio::spawn(async move { try_run(&pool, &rule("trunk_id", "t", "Asha")).await });
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    let database = &db;
    eventually("the rule waits", Duration::from_secs(5), async || database.count(waiting).await == 1).await;
    storing.commit().await.unwrap();
    ruling.await.unwrap().unwrap();
    assert_eq!(db.texts("select customer from vobiz.billing_day").await, ["Asha"]);

    // The other way round: the rule is there, not committed, and the call waits for it.
    let mut changing = writer.begin().await.unwrap();
    sqlx::raw_sql("delete from vobiz.customer_rule").execute(&mut *changing).await.unwrap();
    let pool = db.pool.clone();
    let storing = tokio::spawn(async move {
        try_run(&pool, &insert("values ('two', 'MA_A', 't', timestamptz '2026-03-01Z', 5, 1)")).await
    });
    eventually("the call waits", Duration::from_secs(5), async || database.count(waiting).await == 1).await;
    changing.commit().await.unwrap();
    storing.await.unwrap().unwrap();
    assert_eq!(db.texts("select customer || calls from vobiz.billing_day").await, ["unassigned2"]);
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn a_zone_that_changes_waits_for_a_folding_and_the_next_folding_cuts_by_it() {
    let db = Database::new().await;
    // 20:00 UTC is the next day in Kolkata.
    db.run(&insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01 20:00Z', 5, 1)")).await;
    let mut folder = db.connection().await;
    let mut folding = folder.begin().await.unwrap();
    assert_eq!(rollup::fold(&mut folding, 100).await.unwrap(), 1);

    let pool = db.pool.clone();
    let changing = tokio::spawn(async move { try_run(&pool, &set_zone("UTC")).await });
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    let database = &db;
    eventually("the zone waits", Duration::from_secs(5), async || database.count(waiting).await == 1).await;
    // A writer does not.
    db.run(&insert("values ('two', 'MA_A', 't', timestamptz '2026-03-02 20:00Z', 5, 1)")).await;
    let days = "select concat_ws(' ', billing_zone, day, calls) from vobiz.billing_day order by day";
    assert_eq!(db.texts(days).await, ["Asia/Kolkata 2026-03-02 1", "Asia/Kolkata 2026-03-03 1"]);
    folding.commit().await.unwrap();
    changing.await.unwrap().unwrap();
    assert_eq!(db.texts(days).await, ["UTC 2026-03-01 1", "UTC 2026-03-02 1"]);
    assert_eq!(drift(&db).await, 0);

    // The other way round: nothing is folded while the zone changes, everybody else sees the old one, and writers go on.
    let mut changing = folder.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(set_zone("Asia/Kolkata"))).execute(&mut *changing).await.unwrap();
    let limit: String = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')")
        .fetch_one(&mut *changing)
        .await
        .unwrap();
    assert_eq!(limit, "30s");
    db.run(&insert("values ('three', 'MA_A', 't', timestamptz '2026-03-03 20:00Z', 5, 1)")).await;
    assert_eq!(fold(&db, 100).await, 0);
    assert_eq!(db.texts(days).await, ["UTC 2026-03-01 1", "UTC 2026-03-02 1", "UTC 2026-03-03 1"]);
    changing.commit().await.unwrap();
    let after = ["Asia/Kolkata 2026-03-02 1", "Asia/Kolkata 2026-03-03 1", "Asia/Kolkata 2026-03-04 1"];
    assert_eq!(db.texts(days).await, after);
    assert_eq!((fold(&db, 100).await, drift(&db).await), (2, 0));
    assert_eq!(db.texts(days).await, after);
    assert_eq!(
        db.texts("select day::text from vobiz.rollup_day order by day").await,
        ["2026-03-02", "2026-03-03", "2026-03-04"]
    );
}

#[tokio::test]
async fn a_zone_that_is_none_is_refused_and_so_is_a_change_that_cannot_see_what_was_folded() {
    let db = Database::new().await;
    let said = refusal(&db, &set_zone("Asia/Nowhere")).await;
    assert!(said.contains("Asia/Nowhere"), "{said}");
    db.run(&insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01 20:00Z', 5, 1)")).await;
    let mut connection = db.connection().await;
    let mut transaction = connection.begin_with("begin isolation level repeatable read").await.unwrap();
    let refused = sqlx::raw_sql(AssertSqlSafe(set_zone("UTC"))).execute(&mut *transaction).await;
    assert!(refused.unwrap_err().to_string().contains("transaction that is repeatable read"));
    transaction.rollback().await.unwrap();
    let mut transaction = connection.begin_with("begin isolation level repeatable read").await.unwrap();
    let refused = rollup::fold(&mut transaction, 100).await;
    assert!(refused.unwrap_err().to_string().contains("transaction that is repeatable read"));
    transaction.rollback().await.unwrap();
    // What is said anew is what is changed.
    fold(&db, 100).await;
    db.run("delete from vobiz.setting; insert into vobiz.setting (billing_zone) values ('UTC')").await;
    assert_eq!(
        db.text("select concat_ws(' ', day, billing_zone) from vobiz.billing_day").await,
        "2026-03-01 UTC"
    );
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn of_rules_for_the_same_thing_and_time_one_is_refused_whoever_comes_first() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz.customer_rule (field, value, customer, valid_from, valid_to)
         values ('trunk_id', 't', 'Asha', '2026-03-01Z', '2026-04-01Z'), ('trunk_id', 't', 'Ravi', '2026-04-01Z', 'infinity'),
                ('campaign_id', 't', 'Ravi', '-infinity', 'infinity')",
    )
    .await;
    for sql in [
        rule("trunk_id", "t", "Meera"),
        "update vobiz.customer_rule set valid_to = '2026-04-01 00:00:01Z' where customer = 'Asha'".into(),
        "update vobiz.customer_rule set field = 'trunk_id'".into(),
    ] {
        let said = refusal(&db, &sql).await;
        assert!(said.contains("overlap") && said.contains("trunk_id = 't'"), "{said}");
    }
    for (sql, word) in [
        ("truncate vobiz.customer_rule", "delete the rules"),
        ("truncate vobiz.rollup", "verify --repair"),
        ("truncate vobiz.rollup_day", "verify --repair"),
        ("truncate vobiz.rollup_delta", "the service folds"),
        (
            "insert into vobiz.customer_rule (field, value, customer) values ('region', 'x', 'y')",
            "field_check",
        ),
        (
            "insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 'x', 'unassigned')",
            "customer_check",
        ),
        (
            "insert into vobiz.customer_rule (field, value, customer, valid_from, valid_to) values ('trunk_id', 'x', 'y', now(), now())",
            "valid_for_some_time",
        ),
    ] {
        let said = refusal(&db, sql).await;
        assert!(said.contains(word), "{sql}: {said}");
    }
    // With one snapshot for all its statements, a transaction could not see what it has waited for.
    let one = insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01Z', 5, 1)");
    for sql in ["delete from vobiz.customer_rule", &one] {
        let mut connection = db.connection().await;
        let mut transaction = connection.begin_with("begin isolation level repeatable read").await.unwrap();
        let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await;
        assert!(refused.unwrap_err().to_string().contains("transaction that is repeatable read"));
        transaction.rollback().await.unwrap();
    }
    db.run("delete from vobiz.customer_rule").await;
    let together = (0..8).map(|n| {
        let pool = db.pool.clone();
        async move { try_run(&pool, &rule("our_number", "+91804", &format!("customer {n}"))).await.is_ok() }
    });
    let taken = futures_util::future::join_all(together).await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    let audited = "select count(*) from vobiz.audit where action = 'customer_rule_changed'";
    assert_eq!(db.count(audited).await, 3 + 3 + 1, "what was refused is not in the log");
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
async fn whoever_changes_rules_and_forgets_it_is_sent_away() {
    let db = Database::new().await;
    let mut connection = db.connection().await;
    let limit = "select current_setting('idle_in_transaction_session_timeout')";
    for (sql, expected) in [(rule("trunk_id", "t", "Asha"), "30s"), ("select".into(), "0")] {
        let mut transaction = connection.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
        let found: String = sqlx::query_scalar(limit).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, expected, "until the end of the transaction");
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn many_rules_in_one_statement_move_each_call_once() {
    let db = Database::new().await;
    db.run(&insert(
        "select 'c' || i, 'MA_' || i % 3, 't' || i % 4, timestamptz '2026-03-01Z' + i * interval '1 h', i, 0.1 from generate_series(1, 100) i",
    ))
    .await;
    // An account, trunks that have calls in it and in others, and a number; for a part of the time.
    db.run(
        "insert into vobiz.customer_rule (field, value, customer, valid_from, valid_to)
         select v.*, timestamptz '2026-03-02Z', timestamptz '2026-03-04Z'
         from (values ('account_id', 'MA_0', 'Asha'), ('trunk_id', 't0', 'Ravi'), ('trunk_id', 't1', 'Meera'), ('our_number', '+918040', 'Tara')) v",
    )
    .await;
    assert_eq!(drift(&db).await, 0);
    let customers = "select string_agg(customer || ' ' || calls, ', ' order by customer) from (
                       select customer, sum(calls) as calls from vobiz.billing_day group by customer) x";
    assert_eq!(db.text(customers).await, "Asha 8, Meera 12, Ravi 11, Tara 1, unassigned 68");
    db.run(
        "update vobiz.customer_rule set customer = 'Asha', valid_to = 'infinity' where field <> 'our_number'",
    )
    .await;
    assert_eq!(drift(&db).await, 0);
    db.run("delete from vobiz.customer_rule").await;
    assert_eq!((drift(&db).await, db.text(customers).await), (0, "unassigned 100".to_owned()));
}

#[tokio::test]
async fn a_call_is_its_numbers_before_its_campaigns_before_its_trunks_before_its_accounts() {
    let db = Database::new().await;
    db.run(&insert("values ('call', 'MA_A', 't', timestamptz '2026-03-01 10:00Z', 5, 1)")).await;
    db.run("update vobiz.cdr set campaign_id = 'c'").await;
    let whose = "select customer from vobiz.billing_day";
    assert_eq!(db.text(whose).await, "unassigned");
    for (field, value) in
        [("account_id", "MA_A"), ("trunk_id", "t"), ("campaign_id", "c"), ("our_number", "+91805")]
    {
        db.run(&rule(field, value, field)).await;
        assert_eq!(db.texts(whose).await, [field]);
        assert_eq!(db.text("select customer from vobiz.customer_cdr").await, field);
        let asked =
            "select vobiz.customer_of(account_id, trunk_id, campaign_id, our_number, day_at) from vobiz.cdr";
        assert_eq!(db.text(asked).await, field);
    }
    // Half open: the first instant is inside, the last is not.
    db.run("update vobiz.customer_rule set valid_to = '2026-03-01 10:00Z' where field = 'our_number'").await;
    assert_eq!(db.texts(whose).await, ["campaign_id"]);
    db.run("update vobiz.customer_rule set valid_from = '2026-03-01 10:00Z', valid_to = 'infinity' where field = 'our_number'").await;
    assert_eq!(db.texts(whose).await, ["our_number"]);
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
                    where wait_event_type = 'Lock' and query like '%on conflict on constraint rollup_key%' and datname = current_database()";
        let database = &db;
        eventually("the folding is killed", Duration::from_secs(5), async || database.count(kill).await == 1)
            .await;
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
    migration::apply(&db.pool, Duration::from_secs(30)).await.unwrap();
    assert_eq!(db.count("select sum(calls)::bigint from vobiz.rollup").await, 50);
    assert_eq!(db.count("select sum(calls)::bigint from vobiz.rollup_day").await, 50);
    assert_eq!(db.text("select total_cost::text from vobiz.billing_month").await, "5.0");
    db.run("delete from vobiz.cdr where call_id = 'c1'").await;
    assert_eq!(drift(&db).await, 0);
    // Once there are sums, the text leaves them alone.
    db.run("delete from vobiz.repeatable").await;
    migration::apply(&db.pool, Duration::from_secs(30)).await.unwrap();
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

fn verify(db: &Database, arguments: &[&str]) -> Finished {
    run(program(&[&["verify"], arguments].concat()).env("DATABASE_URL", &db.url).env("USER", "asha"))
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
    while fold(&db, 1000).await > 0 {}
    assert_eq!((drift(&db).await, verify(&db, &["--repair"]).status.code()), (0, Some(0)));
    let audited = "select concat_ws(' ', replace(by, session_user, 'user'), account_id, detail->'was'->>'cost', detail->'is'->>'cost')
                   from vobiz.audit where action = 'rollup_repaired' order by id";
    assert_eq!(
        db.texts(audited).await,
        [
            "user (asha) MA_A 0.1001 0.1",
            "user (asha) MA_A 0 0.1",
            "user (asha) MA_B 0 0",
            "user (asha) MA_A 1.8 1.7001"
        ]
    );
}

#[tokio::test]
async fn verify_finds_days_that_are_not_those_of_their_quarters_and_cuts_them_anew() {
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
            && wrong.stderr.contains("5 sums by day differ from their quarters: --repair makes them right")
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
            && repaired.stderr.contains("sums by day differed"),
        "{}",
        repaired.stderr
    );
    over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert_eq!(drift(&db).await, 0);
}
