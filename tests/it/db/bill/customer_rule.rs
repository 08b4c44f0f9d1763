//! Whose a call is: rules by number, campaign, trunk and account, each for a time.

use sqlx::{AssertSqlSafe, Connection};

use super::{drift, insert, refusal, rule, try_run};
use crate::support::database::Database;
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
    for (sql, expected) in [(rule("trunk_id", "t", "Asha"), "30s"), ("select".into(), "0")] {
        let mut transaction = connection.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
        let found: String = sqlx::query_scalar(limit).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, expected, "until the end of the transaction");
        transaction.commit().await.unwrap();
    }
}
