//! What changed and who changed it: earlier states of the CDRs, the steps between them, and the log of what people did.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use crate::support::calls::{DIFFERS_FROM_ITS_VERSIONS, listed, plain, single};
use crate::support::database::Database;

fn record(call: &str, fields: &str) -> String {
    format!(r#"{{"uuid":"{call}",{fields}}}"#)
}

/// A database with one call in three versions (cost 1, then 2 by a list row that says less, then 3), asked for at these seconds.
async fn a_call_in_three_versions() -> (Database, DateTime<Utc>) {
    let db = Database::new().await;
    let now = db.now().await - TimeDelta::hours(1);
    let whole = r#""start_time":"2026-03-25T10:00:00Z","updated_at":"2026-03-25T10:01:00Z","cost":1,"billsec":7,"currency":"INR""#;
    db.upsert(&[&single(&record("call", whole), now)]).await;
    let less = r#""updated_at":"2026-03-25T10:02:00Z","cost":2.50"#;
    db.upsert(&[&listed(&record("call", less), now + TimeDelta::seconds(10))]).await;
    let last = r#""start_time":"2026-03-25T10:00:00Z","updated_at":"2026-03-25T10:03:00Z","cost":3,"currency":"INR""#;
    db.upsert(&[&single(&record("call", last), now + TimeDelta::seconds(20))]).await;
    (db, now)
}

async fn as_of(db: &Database, at: DateTime<Utc>) -> Vec<String> {
    db.texts(&format!(
        "select concat_ws(' ', call_id, cost, coalesce(billsec::text, '-'), currency, revision, to_char(day_at at time zone 'UTC', 'HH24:MI'))
         from vobiz.cdr_as_of('{}') order by call_id",
        at.to_rfc3339()
    ))
    .await
}

async fn audited(db: &Database) -> Vec<String> {
    db.texts("select action || ' ' || call_id from vobiz.audit order by id").await
}

/// What Postgres says against a statement.
async fn refusal(db: &Database, sql: &str) -> String {
    let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&db.pool).await;
    refused.err().unwrap_or_else(|| panic!("{sql}: it was taken")).to_string()
}

#[tokio::test]
async fn a_cdr_is_shown_as_it_was_known_at_an_instant() {
    let (db, now) = a_call_in_three_versions().await;
    db.upsert(&[&plain("other", now + TimeDelta::seconds(15))]).await;
    let at = |second| now + TimeDelta::seconds(second);
    assert!(as_of(&db, at(-1)).await.is_empty());
    assert_eq!(as_of(&db, at(0)).await, ["call 1 7 INR 1 10:00"]);
    // The list row said nothing of the seconds, the currency and the start.
    assert_eq!(as_of(&db, at(10)).await, ["call 2.50 7 INR 2 10:00"]);
    assert_eq!(as_of(&db, at(14)).await.len(), 1);
    assert_eq!(as_of(&db, at(15)).await.len(), 2);
    // The last single record says nothing of the seconds, and means it.
    assert_eq!(as_of(&db, at(20)).await[0], "call 3 - INR 3 10:00");
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
}

#[tokio::test]
async fn a_version_that_was_confirmed_wins_over_one_asked_for_in_between() {
    let db = Database::new().await;
    let now = db.now().await - TimeDelta::hours(1);
    let at = |second| now + TimeDelta::seconds(second);
    let version = |cost: u32| record("call", &format!(r#""cost":{cost}"#));
    db.upsert(&[&single(&version(1), at(0))]).await;
    db.upsert(&[&single(&version(1), at(9))]).await;
    db.upsert(&[&single(&version(2), at(4))]).await;
    assert_eq!(db.text("select cost::text from vobiz.cdr").await, "1");
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    let cost = |second| format!("select cost::text from vobiz.cdr_as_of('{}')", at(second).to_rfc3339());
    assert_eq!(db.text(&cost(5)).await, "2", "at that moment this was the last word");
    assert_eq!(db.text(&cost(9)).await, "1");
}

#[tokio::test]
async fn a_change_is_one_row_a_field_and_what_a_list_leaves_out_has_not_changed() {
    let (db, now) = a_call_in_three_versions().await;
    db.upsert(&[&plain("other", now)]).await;
    let changes = db
        .texts(
            "select concat_ws(' ', call_id, revision, field, coalesce(was, '-'), coalesce(\"is\", '-'), coalesce(difference::text, '-'))
             from vobiz.cdr_change order by revision, field",
        )
        .await;
    assert_eq!(changes, ["call 2 cost 1 2.50 1.50", "call 3 billsec 7 - -", "call 3 cost 2.50 3 0.50"]);
    let when = format!(
        "select count(*) from vobiz.cdr_change where changed_at = '{}' and vobiz_updated_at = '2026-03-25T10:02:00Z'",
        (now + TimeDelta::seconds(10)).to_rfc3339()
    );
    assert_eq!(db.count(&when).await, 1);
}

#[tokio::test]
async fn a_change_of_currency_has_no_difference_and_a_moved_day_is_told() {
    let db = Database::new().await;
    let now = db.now().await;
    for (minute, currency, cost) in [(1, "INR", 1), (2, "USD", 2)] {
        let fields = format!(
            r#""start_time":"2026-03-2{minute}T10:00:00Z","updated_at":"2026-03-25T10:0{minute}:00Z","cost":{cost},"currency":"{currency}""#
        );
        db.upsert(&[&single(&record("call", &fields), now)]).await;
    }
    let changes = db
        .texts("select concat_ws(' ', field, was, \"is\", coalesce(difference::text, '-')) from vobiz.cdr_change order by field")
        .await;
    assert_eq!(
        changes,
        [
            "cost 1 2 -",
            "currency INR USD -",
            "day_at 2026-03-21T10:00:00.000000Z 2026-03-22T10:00:00.000000Z -"
        ]
    );
}

#[tokio::test]
async fn one_call_is_looked_up_without_reading_the_others() {
    let db = Database::new().await;
    for sql in [
        "select * from vobiz.cdr_as_of('infinity') where call_id = 'x'",
        "select * from vobiz.cdr_change where call_id = 'x'",
    ] {
        let plan = db.texts(&format!("explain {sql}")).await.join(
            "
",
        );
        // Five partitions, and vobiz.cdr.
        assert_eq!(plan.matches("call_id = 'x'::text)").count(), 6, "{plan}");
    }
}

#[tokio::test]
async fn a_deleted_cdr_leaves_its_billed_fields_behind() {
    let (db, now) = a_call_in_three_versions().await;
    db.upsert(&[&plain("other", now)]).await;
    db.run("begin; set local vobiz.by = 'Asha'; delete from vobiz.cdr; commit").await;
    assert_eq!(audited(&db).await, ["cdr_deleted call", "cdr_deleted other"]);
    let said = "select concat_ws(' ', account_id, detail->'was'->>'cost', detail->'was'->>'currency', detail->>'revision') from vobiz.audit
                where call_id = 'call'";
    assert_eq!(db.text(said).await, "MA_TESTAB12 3 INR 3");
    assert_eq!(
        db.texts("select distinct replace(by, session_user, 'user') from vobiz.audit").await,
        ["user (Asha)"]
    );
    // Its versions are still there, and may be deleted as well.
    db.run("delete from vobiz.cdr_revision where call_id = 'call' and revision = 2").await;
    assert_eq!(audited(&db).await[2..], ["revision_deleted call"]);
    let version =
        "select concat_ws(' ', detail->>'revision', detail->>'cost', detail->>'source') from vobiz.audit
                   where action = 'revision_deleted'";
    assert_eq!(db.text(version).await, "2 2.50 list");
}

#[tokio::test]
async fn what_the_service_writes_is_no_change_by_hand_and_what_a_person_writes_is() {
    let (db, now) = a_call_in_three_versions().await;
    // Older and late: the row is built anew; and once more the same, which only confirms it.
    let late = r#""updated_at":"2026-03-25T10:02:30Z","cost":2.75,"billsec":8"#;
    let list = r#""updated_at":"2026-03-25T10:04:00Z","cost":4"#;
    for version in [
        listed(&record("call", list), now + TimeDelta::seconds(30)),
        single(&record("call", late), now + TimeDelta::seconds(15)),
        listed(&record("call", list), now + TimeDelta::seconds(40)),
    ] {
        db.upsert(&[&version]).await;
    }
    db.owe(&["call"], true).await;
    assert!(audited(&db).await.is_empty());

    db.run("update vobiz.cdr set listed_by = 'MA_OTHER', mos = 1, cost = cost").await;
    assert!(audited(&db).await.is_empty(), "no billed field is another now");
    db.run("update vobiz.cdr set cost = cost + 0.01").await;
    db.run("update vobiz.cdr set start_time = start_time + interval '1 day'").await;
    db.run("update vobiz.cdr set call_id = 'renamed'").await;
    assert_eq!(audited(&db).await, ["cdr_changed_by_hand call"; 3]);
    let both = "select concat_ws(' ', detail->'was'->>'cost', detail->'is'->>'cost') from vobiz.audit order by id limit 1";
    assert_eq!(db.text(both).await, "4 4.01");
    assert_eq!(
        db.text("select detail->>'call_id' from vobiz.audit order by id desc limit 1").await,
        "renamed"
    );
}

#[tokio::test]
async fn the_logs_are_append_only_and_nothing_is_emptied_at_once() {
    let (db, _) = a_call_in_three_versions().await;
    db.run("insert into vobiz.audit (action, reason) values ('tried', 'to see')").await;
    for (sql, word) in [
        ("update vobiz.audit set reason = 'another'", "append only"),
        ("delete from vobiz.audit", "append only"),
        ("truncate vobiz.audit", "append only"),
        ("truncate vobiz.cdr", "delete rows"),
        ("truncate vobiz.cdr_revision", "drop the partition"),
        ("update vobiz.cdr_revision set cost = 0", "vobiz-cdr reparse"),
        ("insert into vobiz.audit (action) values ('')", "audit_action_check"),
    ] {
        let said = refusal(&db, sql).await;
        assert!(said.contains(word), "{sql}: {said}");
    }
    // A partition that is made later refuses too.
    let month = "select relname::text from pg_catalog.pg_inherits join pg_catalog.pg_class on oid = inhrelid
                 where inhparent = 'vobiz.cdr_revision'::regclass order by 1 desc limit 1";
    db.stop_clock("2031-01-15T00:00:00Z".parse().unwrap()).await;
    vobiz_cdr::db::base::partition::ensure(&mut *db.connection().await).await.unwrap();
    let month = db.text(month).await;
    db.upsert(&[&plain("late", "2031-04-02T00:00:00Z".parse().unwrap())]).await;
    assert_eq!(month, "cdr_revision_2031_04");
    let said = refusal(&db, &format!("update vobiz.{month} set cost = 0")).await;
    assert!(said.contains("kept as it came"), "{said}");
}

#[tokio::test]
async fn whoever_may_delete_rows_need_not_be_allowed_to_write_the_log() {
    let (db, _) = a_call_in_three_versions().await;
    let role = format!("clerk_{}", std::process::id());
    db.run(&format!(
        "create role {role}; grant usage on schema vobiz to {role}; grant select, delete, update on vobiz.cdr to {role}"
    ))
    .await;
    let mut connection = db.connection().await;
    let sql = format!(
        "set role {role}; update vobiz.cdr set cost = 9; delete from vobiz.cdr where call_id = 'call'; reset role"
    );
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await;
    sqlx::raw_sql("reset role").execute(&mut *connection).await.unwrap();
    drop(connection);
    db.run(&format!("drop owned by {role}; drop role {role}")).await;
    done.unwrap();
    assert_eq!(audited(&db).await, ["cdr_changed_by_hand call", "cdr_deleted call"]);
}
