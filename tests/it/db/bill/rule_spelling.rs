//! How dates and numbers of rules may be written.

use sqlx::{AssertSqlSafe, Executor};

use crate::support::database::Database;

#[tokio::test]
async fn a_day_in_numbers_that_may_be_two_begins_no_rule() {
    let db = Database::new().await;
    let insert = |from: &str| {
        format!(
            "insert into vobiz.customer_rule (field, value, customer, valid_from) values ('trunk_id', 't', 'Asha', {from})"
        )
    };
    let mut session = db.connection().await;
    for style in ["ISO, MDY", "ISO, DMY", "SQL, YMD"] {
        for zone in ["UTC", "Asia/Kolkata"] {
            let set = format!("set datestyle = '{style}'; set timezone = '{zone}'");
            session.execute(AssertSqlSafe(set)).await.unwrap();
            for from in ["'05/11/26'", "'11-05-26 09:00'", "'5.11.26'"] {
                let said = session.execute(AssertSqlSafe(insert(from))).await.unwrap_err().to_string();
                assert!(said.contains("may be either of two days"), "{style} {zone} {from}: {said}");
            }
            for from in
                ["'2026-11-05'", "'2026/11/05'", "'20261105'", "'5 Nov 2026'", "'2026-11-05T00:00Z'", "now()"]
            {
                // Another date elsewhere in the statement is no matter.
                let whole = insert(from).replace("'Asha'", "'Asha 05/11/26'");
                session.execute(AssertSqlSafe(whole)).await.unwrap();
                session.execute("delete from vobiz.customer_rule").await.unwrap();
            }
        }
    }
    session.execute("set datestyle = 'ISO, MDY'").await.unwrap();
    session.execute(AssertSqlSafe(insert("'05/05/2026'"))).await.unwrap();
    for day in ["05/12/2027", "12.5.2027"] {
        let update = format!("update vobiz.customer_rule set valid_to = '{day}'");
        assert!(session.execute(AssertSqlSafe(update)).await.is_err(), "{day}");
    }
    session.execute("update vobiz.customer_rule set valid_to = '12/25/2027'").await.unwrap();
}

#[tokio::test]
async fn a_date_is_one_of_the_billing_zone_in_whatever_spelling() {
    let db = Database::new().await;
    let mut session = db.connection().await;
    session.execute("set timezone = 'UTC'").await.unwrap();
    for (style, from, begins) in [
        ("ISO, MDY", "2026/11/05", "2026-11-05 00:00:00"),
        ("ISO, MDY", "5 Nov 2026", "2026-11-05 00:00:00"),
        ("SQL, DMY", "Nov 5, 2026", "2026-11-05 00:00:00"),
        ("ISO, MDY", "20261105", "2026-11-05 00:00:00"),
        ("ISO, DMY", "13/11/2026", "2026-11-13 00:00:00"),
        ("German, DMY", "13.11.2026 10:30", "2026-11-13 10:30:00"),
        ("ISO, MDY", "2026/11/05 00:00Z", "2026-11-05 05:30:00"),
        ("ISO, MDY", "5 Nov 2026 UTC", "2026-11-05 05:30:00"),
        ("ISO, DMY", "13/11/2026 00:00+05:30", "2026-11-13 00:00:00"),
    ] {
        let insert = format!(
            "set datestyle = '{style}';
             insert into vobiz.customer_rule (field, value, customer, valid_from) values ('trunk_id', 't', 'O''Asha', '{from}')"
        );
        for statement in insert.split(';') {
            session.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
        let began = "select to_char(valid_from at time zone 'Asia/Kolkata', 'YYYY-MM-DD HH24:MI:SS') from vobiz.customer_rule";
        assert_eq!(db.texts(began).await, [begins], "{style} {from}");
        session.execute("delete from vobiz.customer_rule").await.unwrap();
    }
    for style in ["ISO, MDY", "ISO, DMY"] {
        session.execute(AssertSqlSafe(format!("set datestyle = '{style}'"))).await.unwrap();
        for from in ["05/11/2026 00:00+05:30", "5.11.2026 02:00 Asia/Kolkata", "05/11/26 23:00-08"] {
            let insert = format!(
                "insert into vobiz.customer_rule (field, value, customer, valid_from) values ('trunk_id', 't', 'Asha', '{from}')"
            );
            let said = session.execute(AssertSqlSafe(insert)).await.unwrap_err().to_string();
            assert!(said.contains("may be either of two days"), "{style} {from}: {said}");
        }
    }
}

#[tokio::test]
async fn the_number_of_a_rule_is_read_as_that_of_a_call() {
    let db = Database::new().await;
    for written in [
        "tel:+919876543210",
        "+91(0)9876543210",
        "+91 (0) 98765\u{2013}43210",
        "９８７６５４３２１０",
        "＋919876543210",
    ] {
        db.run(&format!("insert into vobiz.customer_rule (field, value, customer) values ('our_number', '{written}', 'Asha')")).await;
        let forms = db
            .count("select count(*) from vobiz.customer_rule where forms @> '{+919876543210,9876543210}'")
            .await;
        assert_eq!(forms, 1, "{written}");
        db.run("delete from vobiz.customer_rule").await;
    }
}
