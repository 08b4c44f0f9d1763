//! Partitions are there before their month is.

use chrono::{DateTime, Datelike, Months, TimeDelta, Utc};
use vobiz_cdr::db::base::partition;

use crate::support::calls::plain;
use crate::support::database::Database;

/// The partitions of both tables that there should be at an instant.
fn expected_partitions(now: DateTime<Utc>) -> Vec<String> {
    let first = now.date_naive().with_day(1).unwrap() - Months::new(1);
    let months = |table: &'static str| {
        (0..5).map(move |n| format!("{table}_{}", (first + Months::new(n)).format("%Y_%m")))
    };
    months("callback").chain(months("callback_nonce")).chain(months("cdr_revision")).collect()
}

async fn partitions(db: &Database) -> Vec<String> {
    let sql = "select relname::text from pg_catalog.pg_inherits join pg_catalog.pg_class on oid = inhrelid
               where relkind = 'r' and relnamespace = 'vobiz'::regnamespace order by 1";
    db.texts(sql).await
}

#[tokio::test]
async fn partitions_are_made_ahead_of_the_clock() {
    let db = Database::new().await;
    let now = db.now().await;
    let made = expected_partitions(now);
    assert_eq!(partitions(&db).await, made);
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 0, "again is nothing");

    // The last second of a year, more than a year from now: fifteen new ones, three of them in the next year.
    let last = format!("{}-12-31T23:59:59Z", now.year() + 2).parse().unwrap();
    db.stop_clock(last).await;
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 15);
    let mut all = [made, expected_partitions(last)].concat();
    all.sort();
    assert_eq!(partitions(&db).await, all);

    // What is written then lands there, on both sides of the year's end.
    for (n, instant) in [last, last + TimeDelta::seconds(1)].into_iter().enumerate() {
        db.stop_clock(instant).await;
        let call = format!("call-{n}");
        db.owe(&[&call], true).await;
        db.upsert(&[&plain(&call, instant)]).await;
        for table in ["callback", "cdr_revision"] {
            let sql = format!(
                "select count(*) from vobiz.{table}_{} where call_id = '{call}'",
                instant.format("%Y_%m")
            );
            assert_eq!(db.count(&sql).await, 1);
        }
    }
    let key = "select count(*) from pg_catalog.pg_constraint where contype = 'p' and conrelid = any (
                 select inhrelid from pg_catalog.pg_inherits where inhparent = 'vobiz.cdr_revision'::regclass)";
    assert_eq!(db.count(key).await, 10, "each partition has the key of its table");
}

#[tokio::test]
async fn a_partition_that_was_left_half_made_is_finished() {
    let db = Database::new().await;
    let name = partitions(&db).await.pop().unwrap();
    db.run(&format!("alter table vobiz.cdr_revision detach partition vobiz.{name}")).await;
    assert_eq!(partition::ensure(&mut *db.connection().await).await.unwrap(), 1);
    assert_eq!(partitions(&db).await.last(), Some(&name));
}
