//! Two records of one uuid: each is kept, billed and proved.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;
use vobiz_cdr::simulator::CallSpec;

use super::{at, check, check_again, ledger_world, states};
use crate::db::bill::drift;
use crate::support::calls::{listed, single};
use crate::support::database::Database;
use crate::support::process::{program, run};
use crate::support::world::options;

/// The rows that are kept, each with its amount, and the bill.
const KEPT: &str = "select concat_ws(' ', call_id, account_id, vobiz_id, trim_scale(total_cost), cardinality(notes)) from vobiz.cdr order by 1";
const BILL: &str = "select concat_ws(' ', account_id, sum(calls), trim_scale(sum(total_cost))) from vobiz.billing_day group by account_id order by 1";

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_records_with_one_uuid_is_billed_and_their_day_settles() {
    for owed in [false, true] {
        let (world, began) = ledger_world(options()).await;
        let call = at(&world, began, 3.0);
        let twin = |cost: &str, hours| {
            let started = began + TimeDelta::hours(hours);
            let spec = CallSpec {
                started_at: Some(started),
                ended_at: Some(started + TimeDelta::seconds(40)),
                ring_time: Some(10),
                billsec: Some(30),
                cost: Some(cost.parse().unwrap()),
                streaming_cost: Some("0".parse().unwrap()),
                set: BTreeMap::from([("uuid".into(), Some(json!(call).to_string()))]),
                ..CallSpec::default()
            };
            world.vobiz.place_call(spec)
        };
        // One beside it in the list, and one hours later.
        let twins = [twin("0.30", 3), twin("7", 20)];
        if owed {
            world.owe(&call, true).await;
            world.drain().await;
            assert_eq!(world.text(BILL).await, "MA_TESTAB12 1 0.45");
        }
        world.sweep().await;
        check(&world).await;
        assert_eq!(world.text(BILL).await, "MA_TESTAB12 3 7.75", "owed: {owed}");
        let settled = states(&world).await.remove(0);
        assert!(settled.starts_with("settled 3 3 7.75 7.75"), "{settled}");
        let noted = world
            .text("select string_agg(n, ';' order by n) from vobiz.cdr c cross join unnest(c.notes) n where c.call_id like '%~%'")
            .await;
        assert_eq!(
            noted.matches("uuid: another record has it too; this one has the number").count(),
            2,
            "{noted}"
        );
        assert_eq!(world.text("select count(*)::text from vobiz.cdr where call_id ~ '~[0-9]+$'").await, "2");

        // A version of one of them is a version of that one alone.
        world.vobiz.revise(&twins[1].call_id, |call| {
            call.cost = "8".parse().unwrap();
            call.updated_at += TimeDelta::hours(1);
        });
        check_again(&world).await;
        assert_eq!(world.text(BILL).await, "MA_TESTAB12 3 8.75");
        assert_eq!(
            world.text("select string_agg(revision::text, '' order by total_cost) from vobiz.cdr").await,
            "112"
        );
        let settled = states(&world).await.remove(0);
        assert!(settled.starts_with("settled 3 3 8.75 8.75"), "{settled}");
        assert_eq!(drift(&world.database).await, 0);

        // Rows built anew from what was kept are the same.
        let before = world.database.texts(KEPT).await;
        let anew = run(program(&["reparse", "--json"]).env("DATABASE_URL", &world.database.url));
        assert!(
            anew.status.success() && anew.stdout.contains("\"changed\":0"),
            "{} {}",
            anew.stdout,
            anew.stderr
        );
        world.database.run("update vobiz.cdr set total_cost = 1, notes = '{}'").await;
        let anew = run(program(&["reparse", "--json"]).env("DATABASE_URL", &world.database.url));
        assert!(anew.stdout.contains("\"changed\":3"), "{} {}", anew.stdout, anew.stderr);
        assert_eq!(world.database.texts(KEPT).await, before);
        world.end().await;
    }
}

/// A record as two accounts might have it, with numbers of their own.
fn record(account: &str, number: Option<u64>, cost: &str) -> String {
    json!({"uuid": "shared-uuid", "id": number, "account_id": account, "billsec": 10, "start_time": "2026-11-20T08:00:00Z",
           "currency": "INR", "updated_at": "2026-11-20T09:00:00Z", "total_cost": cost})
    .to_string()
}

#[tokio::test]
async fn a_record_of_another_account_with_the_same_uuid_takes_nothing_from_the_first() {
    let (a, b) = (record("MA_TESTAB12", Some(1), "1"), record("MA_OTHER999", Some(2), "2"));
    let (unnumbered, third) = (record("MA_TESTAB12", None, "1"), record("MA_OTHER999", Some(3), "4"));
    for (order, expected) in [
        (vec![&a, &b, &a, &b], "MA_OTHER999 1 2;MA_TESTAB12 1 1"),
        (vec![&b, &a, &b], "MA_OTHER999 1 2;MA_TESTAB12 1 1"),
        // A record that says no number is a version of the first; the first number that comes is its number.
        (vec![&unnumbered, &a, &b, &third], "MA_OTHER999 2 6;MA_TESTAB12 1 1"),
    ] {
        for at_once in [false, true] {
            let db = Database::new().await;
            let now = db.now().await;
            let rows: Vec<_> = order
                .iter()
                .enumerate()
                .map(|(n, body)| if n % 2 == 0 { listed(body, now) } else { single(body, now) })
                .collect();
            let group: Vec<_> = rows.iter().collect();
            if at_once {
                let done = db.upsert(&group).await;
                assert_eq!(done.new + done.revised + done.unchanged, group.len(), "{done:?}");
            } else {
                for row in &group {
                    db.upsert(&[*row]).await;
                }
            }
            assert_eq!(db.texts(BILL).await.join(";"), expected, "{order:?} {:?}", db.texts(KEPT).await);
            assert_eq!(drift(&db).await, 0);
        }
    }
}
