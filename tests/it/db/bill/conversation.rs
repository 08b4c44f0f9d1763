//! Which legs are one conversation: each is in one, whatever the bridges say.

use super::views::rows;
use crate::support::calls::single;
use crate::support::database::Database;

#[tokio::test]
async fn bridged_legs_are_one_conversation() {
    let db = Database::with_a_bill().await;
    let columns = "day conversation_id legs call_ids call_direction talked_seconds billsec ring_time post_dial_delay answered \
                   outcome currency total_cost total_cost_by_currency";
    assert_eq!(
        rows(&db, columns, "vobiz.conversation order by first_start").await,
        [
            r#"2026-03-10 B1 2 {a1,a2} outbound 61 106 5 1.000000 true completed INR 1.35 {"INR": 1.35}"#,
            r#"2026-03-10 a3 1 {a3} outbound 0 0 20 - false no_answer INR 0.02 {"INR": 0.02}"#,
            r#"2026-03-11 a4 1 {a4} inbound 60 60 3 - true completed USD 0.55 {"USD": 0.55}"#,
            r#"2026-03-11 a5 1 {a5} outbound 0 0 - - false unknown INR 0 {"INR": 0}"#,
        ]
    );
    let ends = "select (max(last_end) at time zone 'UTC')::text from vobiz.conversation where conversation_id = 'B1'";
    assert_eq!(db.text(ends).await, "2026-03-10 04:01:06");
}

#[tokio::test]
async fn a_conversation_over_midnight_in_two_currencies_is_counted_once_and_not_added_up() {
    let db = Database::new().await;
    let now = db.now().await;
    // 23:59 and 00:01 in India.
    for (call, minute, currency) in [("x", "18:29", "INR"), ("y", "18:31", "USD")] {
        let record = format!(
            r#"{{"uuid":"{call}","start_time":"2026-03-10T{minute}:00Z","billsec":9,"total_cost":1.5,"currency":"{currency}","bridge_uuid":"B"}}"#
        );
        db.upsert(&[&single(&record, now)]).await;
    }
    let found = rows(&db, "day legs currency total_cost total_cost_by_currency", "vobiz.conversation").await;
    assert_eq!(found, [r#"2026-03-10 2 - - {"INR": 1.5, "USD": 1.5}"#]);
}

/// Stores a leg: its id, account, bridge and start.
fn leg(values: &str) -> String {
    format!(
        "insert into vobiz.cdr (call_id, account_id, bridge_uuid, start_time, total_cost, currency, listed_by, origin, attempts, fetched_at,
                                revision, content_hash)
         select v.*, 1, 'INR', 'a', 'manual', 0, now(), 1, sha256('') from ({values}) v (call_id, account_id, bridge_uuid, start_time)"
    )
}

#[tokio::test]
async fn a_bridge_that_is_used_again_is_another_conversation_and_so_is_that_of_another_account() {
    let db = Database::new().await;
    // Days of India begin at 18:30.
    db.run(&leg(
        "values ('a', 'MA_1', 'again', timestamptz '2026-03-10 04:00Z'), ('b', 'MA_1', 'again', '2026-03-10 16:00Z'),
                ('c', 'MA_1', 'again', '2026-03-11 04:00:01Z'), ('d', 'MA_1', 'again', '2026-03-20 04:00Z'),
                ('e', 'MA_1', 'shared', '2026-03-10 04:00Z'), ('f', 'MA_2', 'shared', '2026-03-10 04:00Z'),
                ('g', 'MA_1', '', '2026-03-10 04:00Z'), ('h', 'MA_1', '', '2026-03-10 04:00Z'), ('i', 'MA_1', null, '2026-03-10 04:00Z'),
                ('j', 'MA_1', 'night', '2026-03-10 18:29:59Z'), ('k', 'MA_1', 'night', '2026-03-11 06:29:59Z')",
    ))
    .await;
    assert_eq!(
        rows(&db, "day account_id conversation_id legs call_ids", "vobiz.conversation order by call_ids")
            .await,
        [
            "2026-03-10 MA_1 again 2 {a,b}",
            "2026-03-11 MA_1 again 1 {c}",
            "2026-03-20 MA_1 again 1 {d}",
            "2026-03-10 MA_1 shared 1 {e}",
            "2026-03-10 MA_2 shared 1 {f}",
            "2026-03-10 MA_1 g 1 {g}",
            "2026-03-10 MA_1 h 1 {h}",
            "2026-03-10 MA_1 i 1 {i}",
            "2026-03-10 MA_1 night 2 {j,k}",
        ]
    );
    let day = "vobiz.conversation where day = '2026-03-11' order by call_ids";
    assert_eq!(rows(&db, "call_ids", day).await, ["{c}"], "the others belong to the day before");
}

#[tokio::test]
async fn legs_that_name_one_another_are_one_conversation() {
    let db = Database::new().await;
    db.run(&leg(
        "values ('a', 'MA_1', 'b', timestamptz '2026-03-10 04:00Z'), ('b', 'MA_1', 'a', '2026-03-10 04:00:02Z'),
                -- One names, the other does not; two name a third.
                ('c', 'MA_1', 'd', '2026-03-10 05:00Z'), ('d', 'MA_1', null, '2026-03-10 05:00:01Z'),
                ('e', 'MA_1', '', '2026-03-10 06:00Z'), ('f', 'MA_1', 'e', '2026-03-10 06:01Z'), ('g', 'MA_1', 'e', '2026-03-10 06:02Z'),
                -- A chain that ends in an id of no leg, one that ends in a circle, and a leg that names itself.
                ('h', 'MA_1', 'i', '2026-03-10 07:00Z'), ('i', 'MA_1', 'X', '2026-03-10 07:00Z'), ('j', 'MA_1', 'X', '2026-03-10 07:00Z'),
                ('k', 'MA_1', 'm', '2026-03-10 08:00Z'), ('l', 'MA_1', 'n', '2026-03-10 08:01Z'), ('m', 'MA_1', 'l', '2026-03-10 08:02Z'),
                ('n', 'MA_1', 'm', '2026-03-10 08:03Z'), ('o', 'MA_1', 'o', '2026-03-10 08:00Z'), ('p', 'MA_1', 'o', '2026-03-10 08:00Z'),
                -- Of another account; of another day; over midnight in India.
                ('q', 'MA_2', 'a', '2026-03-10 04:00Z'), ('r', 'MA_1', 'a', '2026-03-12 04:00Z'),
                ('s', 'MA_1', 't', '2026-03-10 18:29Z'), ('t', 'MA_1', 's', '2026-03-10 18:31Z')",
    ))
    .await;
    let found = "vobiz.conversation order by day, account_id, call_ids";
    assert_eq!(
        rows(&db, "day account_id conversation_id legs call_ids total_cost", found).await,
        [
            "2026-03-10 MA_1 a 2 {a,b} 2",
            "2026-03-10 MA_1 d 2 {c,d} 2",
            "2026-03-10 MA_1 e 3 {e,f,g} 3",
            "2026-03-10 MA_1 X 3 {h,i,j} 3",
            "2026-03-10 MA_1 l 4 {k,l,m,n} 4",
            "2026-03-10 MA_1 o 2 {o,p} 2",
            "2026-03-10 MA_1 s 2 {s,t} 2",
            "2026-03-10 MA_2 a 1 {q} 1",
            "2026-03-12 MA_1 a 1 {r} 1",
        ]
    );
    assert!(rows(&db, "call_ids", "vobiz.conversation where day = '2026-03-11'").await.is_empty());
}

#[tokio::test]
async fn a_bridge_without_end_loses_no_leg_and_counts_none_twice() {
    let db = Database::new().await;
    // One bridge for all, another with legs so far apart that some begin anew; over days of 23, 24 and 25 hours, and one that never was.
    for start in ["2026-03-26", "2026-10-22", "2011-12-27"] {
        db.run(&format!(
            "select setseed(0.7);
             {};
             {}",
            leg(&format!(
                "select '{start} one ' || n, 'MA_1', 'one', timestamptz '{start} Z' + n * interval '37 min 11 s' from generate_series(1, 250) n"
            )),
            leg(&format!(
                "select '{start} far ' || n, 'MA_1', 'far', timestamptz '{start} Z' + random() * interval '6 days' from generate_series(1, 16) n"
            )),
        ))
        .await;
    }
    for zone in [
        "Asia/Kolkata",
        "Europe/London",
        "America/Havana",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
    ] {
        db.run(&format!("update vobiz.setting set billing_zone = '{zone}'")).await;
        let counted =
            "select concat_ws(' ', sum(legs), sum(total_cost), count(distinct call), count(call)) from (
                         select legs, total_cost, null as call from vobiz.conversation
                         union all
                         select null, null, unnest(call_ids) from vobiz.conversation) x";
        assert_eq!(db.text(counted).await, "798 798 798 798", "{zone}");
        let wrong = "select count(*) from vobiz.conversation
                     where day <> (first_start at time zone billing_zone)::date
                        or (select max(day_at) from vobiz.cdr c where c.call_id = any (call_ids))
                           >= (day + 1 + time '12:00') at time zone billing_zone";
        assert_eq!(db.count(wrong).await, 0, "{zone}");
    }
}
