//! Whose a call is: rules by number, campaign, trunk and account, each for a time.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};
use vobiz_cdr::db::base::migration;

use super::{drift, insert, refusal, rule, try_run};
use crate::support::database::Database;
use crate::support::log;
use crate::support::wait::until_is;

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
async fn of_rules_for_the_same_thing_and_time_one_is_refused_whichever_comes_first() {
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
            "insert into vobiz.customer_rule (field, value, customer, valid_from, valid_to) values ('trunk_id', 'x', 'y', now(), now())",
            "valid_for_some_time",
        ),
    ] {
        let said = refusal(&db, sql).await;
        assert!(said.contains(word), "{sql}: {said}");
    }
    for nobody in
        ["", "unassigned", "Unassigned", " unassigned", "un assigned\u{a0}", "  ", "\u{a0}", "\u{200b}"]
    {
        let said = refusal(&db, &rule("trunk_id", "x", nobody)).await;
        assert!(said.contains("is no name of a customer"), "{nobody:?}: {said}");
    }
    for nothing in ["", " ", "\t\u{3000}"] {
        let said = refusal(&db, &rule("trunk_id", nothing, "Asha")).await;
        assert!(said.contains("matches no call"), "{nothing:?}: {said}");
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
async fn a_call_that_is_stored_while_a_rule_changes_falls_under_the_rule() {
    let db = Database::new().await;
    let mut writer = db.connection().await;
    let mut storing = writer.begin().await.unwrap();
    let one = insert("values ('one', 'MA_A', 't', timestamptz '2026-03-01Z', 5, 1)");
    sqlx::raw_sql(AssertSqlSafe(one)).execute(&mut *storing).await.unwrap();

    let pool = db.pool.clone();
    let ruling = tokio::spawn(async move { try_run(&pool, &rule("trunk_id", "t", "Asha")).await });
    let waiting = "select count(*) from pg_locks where locktype = 'relation' and not granted and relation = 'vobiz.rollup_delta'::regclass";
    let database = &db;
    until_is("the rule waits", 1, async || database.count(waiting).await).await;
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
    until_is("the call waits", 1, async || database.count(waiting).await).await;
    changing.commit().await.unwrap();
    storing.await.unwrap().unwrap();
    assert_eq!(db.texts("select customer || calls from vobiz.billing_day").await, ["unassigned2"]);
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn a_session_that_changes_rules_and_forgets_it_is_ended() {
    let db = Database::new().await;
    let mut connection = db.connection().await;
    let limit = "select current_setting('idle_in_transaction_session_timeout')";
    for (sql, expected) in [(rule("trunk_id", "t", "Asha"), "30s"), ("select".into(), "1h")] {
        let mut transaction = connection.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
        let found: String = sqlx::query_scalar(limit).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, expected, "until the end of the transaction");
        transaction.commit().await.unwrap();
    }
}

/// What Postgres warned of while this ran, as it is logged.
async fn warnings(db: &Database, sql: &str) -> String {
    log::warnings(db.run(sql)).await
}

/// Stores outbound calls of own numbers: id, number as it came, its E.164 form.
async fn with_numbers(values: &str) -> Database {
    let db = Database::new().await;
    db.run(&format!(
        "insert into vobiz.cdr (call_id, account_id, call_direction, caller_id_number, caller_e164, trunk_id, start_time, total_cost, currency,
           listed_by, origin, attempts, fetched_at, revision, content_hash)
         select v.id, 'MA_A', 'outbound', v.raw, v.e164, 'trunk-delhi', timestamptz '2026-03-31 19:00Z', 1, 'INR', 'MA_A', 'manual', 0, now(), 1,
           sha256('x')
         from (values {values}) v (id, raw, e164)"
    ))
    .await;
    db
}

#[tokio::test]
async fn a_rule_of_a_number_holds_however_the_number_is_written() {
    let db = with_numbers(
        "('a', '919876543210', '+919876543210'), ('b', '9607771234', null), ('c', '6591234567', null), ('d', '4791234567', '+4791234567'),
         ('e', 'sip:desk', null)",
    )
    .await;
    let whose = "select string_agg(call_id, ',' order by call_id) from vobiz.customer_cdr where customer <> 'unassigned'";
    for (value, calls) in [
        ("+919876543210", "a"),
        ("919876543210", "a"),
        ("09876543210", "a"),
        ("9876543210", "a"),
        ("0091 98765-43210", "a"),
        ("+91 (98765) 43210", "a"),
        // As it came, and either of its readings.
        ("9607771234", "b"),
        ("+919607771234", "b"),
        ("+9607771234", "b"),
        ("+6591234567", "c"),
        ("4791234567", "d"),
        ("sip:desk", "e"),
        ("+914791234567", "-"),
        ("+449876543210", "-"),
        ("123", "-"),
    ] {
        db.run(&rule("our_number", value, "Asha")).await;
        assert_eq!(db.text(whose).await, calls, "{value}");
        let one_by_one = "select string_agg(call_id, ',' order by call_id) from vobiz.cdr
                          where vobiz.customer_of(account_id, trunk_id, campaign_id, our_number, day_at) <> 'unassigned'";
        assert_eq!(db.text(one_by_one).await, calls, "{value}");
        assert_eq!(drift(&db).await, 0, "{value}");
        db.run("delete from vobiz.customer_rule").await;
        assert_eq!(drift(&db).await, 0, "{value}");
    }
    // One number is one thing, and a call has one customer.
    db.run(&rule("our_number", "919876543210", "Asha")).await;
    assert!(refusal(&db, &rule("our_number", "09876543210", "Ravi")).await.contains("overlap"));
    // Rules first, calls then; and with another home country the digits are another number.
    db.run("update vobiz.cdr set caller_id_number = '9876543210' where call_id = 'a'").await;
    db.run("update vobiz.customer_rule set value = '9876543210'").await;
    assert_eq!((db.text(whose).await, drift(&db).await), ("a".to_owned(), 0));
    db.run("update vobiz.setting set home_country = '44'").await;
    assert_eq!((db.text(whose).await, drift(&db).await), ("-".to_owned(), 0));
    db.run("update vobiz.cdr set caller_e164 = '+449876543210' where call_id = 'a'").await;
    assert_eq!((db.text(whose).await, drift(&db).await), ("a".to_owned(), 0));
}

#[tokio::test]
async fn a_date_without_a_zone_is_one_of_the_billing_zone() {
    let db = Database::new().await;
    for session in ["UTC", "America/New_York", "Asia/Kolkata"] {
        for (written, from) in [
            ("'2026-04-01'", "2026-03-31 18:30:00"),
            ("'2026-04-01 09:00'", "2026-04-01 03:30:00"),
            ("'2026-04-01T09:00:30'", "2026-04-01 03:30:30"),
            ("date '2026-04-01'", "2026-03-31 18:30:00"),
            ("'2026-04-01 09:00Z'", "2026-04-01 09:00:00"),
            ("'2026-04-01 00:00+00'", "2026-04-01 00:00:00"),
            ("'2026-04-01 00:00 Asia/Kolkata'", "2026-03-31 18:30:00"),
            ("'2026-04-01 00:00 Europe/London'", "2026-03-31 23:00:00"),
            ("'-infinity'", "-infinity"),
        ] {
            db.run(&format!(
                "set timezone = '{session}';
                 insert into vobiz.customer_rule (field, value, customer, valid_from) values ('trunk_id', 't', 'Asha', {written});
                 reset timezone"
            ))
            .await;
            let found =
                db.text("select (valid_from at time zone 'UTC')::text from vobiz.customer_rule").await;
            assert_eq!(found, from, "{written} in {session}");
            db.run("delete from vobiz.customer_rule").await;
        }
    }
    db.run("insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 't', 'Asha')").await;
    db.run("update vobiz.customer_rule set valid_to = '2026-05-01'").await;
    let ends = "select (valid_to at time zone 'Asia/Kolkata')::text from vobiz.customer_rule";
    assert_eq!(db.text(ends).await, "2026-05-01 00:00:00");
}

#[tokio::test]
async fn what_a_rule_matches_and_nearly_matches_is_shown() {
    let db =
        with_numbers("('a', '919876543210', '+919876543210'), ('b', '+918040000000', '+918040000000')").await;
    db.run(
        "insert into vobiz.customer_rule (field, value, customer, valid_from)
         values ('our_number', '09876543210', 'Asha Clinics', '2026-03-01Z'), ('trunk_id', 'Trunk-Delhi\u{a0}', 'Ravi', '-infinity'),
                ('trunk_id', 'trunk-delhi', 'asha \u{2007}clinics', '-infinity'), ('campaign_id', 'none', 'Ravi', '-infinity'),
                ('account_id', 'MA_A', 'Tara', '2026-04-01Z')",
    )
    .await;
    let shown = "select concat_ws(' ', field, calls, (first_at at time zone 'UTC')::time, (last_at at time zone 'UTC')::time, like_rules::text, like_calls)
                 from vobiz.customer_rule_use order by id";
    let number: i64 = db.count("select min(id) from vobiz.customer_rule").await;
    assert_eq!(
        db.texts(shown).await,
        [
            format!("our_number 1 19:00:00 19:00:00 {{{}}}", number + 2),
            format!("trunk_id 0 {{{}}} trunk-delhi", number + 2),
            format!("trunk_id 2 19:00:00 19:00:00 {{{},{}}}", number, number + 1),
            "campaign_id 0 {}".to_owned(),
            "account_id 0 {}".to_owned(),
        ]
    );
    // Said when it is written: psql shows warnings, and sqlx logs them.
    let said = warnings(
        &db,
        "insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 'TRUNK-DELHI', 'Ravi')",
    )
    .await;
    assert!(
        said.contains("matches no call so far") && said.contains("only by blanks or letter case"),
        "{said}"
    );
    let said = warnings(&db, "insert into vobiz.customer_rule (field, value, customer) values ('our_number', '+918040000000', 'Meera')").await;
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_date_is_not_moved_where_the_statement_says_the_same_time_with_a_zone() {
    for (dates, begin) in [
        ("'2026-04-01'", ["2026-04-01 00:00:00"; 2]),
        ("'2026-04-01 00:00Z'", ["2026-04-01 05:30:00", "2026-04-01 05:30:00"]),
    ] {
        let db = Database::new().await;
        db.run(&format!(
            "set timezone = 'UTC';
             insert into vobiz.customer_rule (field, value, customer, valid_from)
             values ('trunk_id', 't1', 'A', {dates}), ('trunk_id', 't2', 'B', {dates})"
        ))
        .await;
        let begins =
            "select (valid_from at time zone 'Asia/Kolkata')::text from vobiz.customer_rule order by value";
        assert_eq!(db.texts(begins).await, begin, "{dates}");
    }
    let db = Database::new().await;
    let said = warnings(
        &db,
        "set timezone = 'UTC';
         insert into vobiz.customer_rule (field, value, customer, valid_from)
         values ('trunk_id', 't1', 'A', '2026-04-01'), ('trunk_id', 't2', 'B', '2026-04-01 00:00Z')",
    )
    .await;
    let begins = "select (valid_from at time zone 'UTC')::text from vobiz.customer_rule order by value";
    assert_eq!(db.texts(begins).await, ["2026-04-01 00:00:00"; 2]);
    assert!(said.contains("midnight in the zone of this session"), "{said}");
}

#[tokio::test]
async fn a_text_that_reads_numbers_otherwise_renews_the_rules_that_are_kept() {
    let db =
        with_numbers("('a', '919876543210', '+919876543210'), ('b', '+918040000000', '+918040000000')").await;
    // The text of a release before, which knew no other forms.
    db.run(
        "create or replace function vobiz.number_forms(written text, home text) returns text[] language sql immutable parallel safe
         as $$ select array[written] $$;
         insert into vobiz.customer_rule (field, value, customer) values ('our_number', '09876543210', 'Asha'), ('trunk_id', 'x', 'Ravi')",
    )
    .await;
    let bill = "select string_agg(customer || ' ' || calls, ',' order by customer) from (
                  select customer, sum(calls) as calls from vobiz.billing_day group by 1) b";
    assert_eq!(db.text(bill).await, "unassigned 2");
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    migration::apply(&db.pool, Duration::from_secs(60)).await.unwrap();
    assert_eq!(db.text(bill).await, "Asha 1,unassigned 1");
    let anew = "select count(*) from vobiz.audit where action = 'customer_rule_changed'";
    let noted = db.count(anew).await;
    // What is read as before is left alone.
    db.run("update vobiz.repeatable set hash = sha256('another')").await;
    migration::apply(&db.pool, Duration::from_secs(60)).await.unwrap();
    assert_eq!(db.count(anew).await, noted);
}
