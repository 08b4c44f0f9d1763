//! The views, by figures that were worked out by hand (`support/bill.rs`), and by what must be equal whatever the calls are.

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;

use crate::support::calls::single;
use crate::support::database::Database;

/// Rows of a view as text, values with a space between, NULL as `-`.
pub(super) async fn rows(db: &Database, columns: &str, from: &str) -> Vec<String> {
    let columns: Vec<String> = columns.split(' ').map(|c| format!("coalesce({c}::text, '-')")).collect();
    db.texts(&format!("select concat_ws(' ', {}) from {from}", columns.join(", "))).await
}

const TOTALS: &str = "currency call_direction calls answered unanswered_with_cost duration billsec minutes pulse_minutes cost \
                      streaming_cost total_cost without_cost";

#[tokio::test]
async fn the_totals_by_trunk_are_those_of_the_calls() {
    let db = Database::with_a_bill().await;
    let found = rows(
        &db,
        &format!("day customer trunk_id {TOTALS}"),
        "vobiz.billing_trunk order by day, trunk_id, currency",
    )
    .await;
    assert_eq!(
        found,
        [
            "2026-03-10 Acme T1 INR outbound 2 2 0 121 106 1.766667 3 1.35 0 1.35 0",
            "2026-03-10 unassigned - INR outbound 1 0 1 20 0 0.000000 0 0.02 0 0.02 0",
            "2026-03-11 unassigned - INR outbound 1 0 0 7 0 0.000000 0 0 0 0 1",
            "2026-03-11 unassigned - USD inbound 1 1 0 63 60 1.000000 1 0.30 0.20 0.55 0",
        ]
    );
    let zones =
        rows(&db, "month billing_zone", "(select distinct month, billing_zone from vobiz.billing_trunk) x");
    assert_eq!(zones.await, ["2026-03-01 Asia/Kolkata"]);
}

#[tokio::test]
async fn each_dimension_has_its_own_keys() {
    let db = Database::with_a_bill().await;
    let few = "calls total_cost";
    assert_eq!(
        rows(
            &db,
            &format!("prefix destination country {few}"),
            "vobiz.billing_destination order by day, prefix"
        )
        .await,
        [
            "+447 United Kingdom mobile United Kingdom 1 0.02",
            "+9122 Mumbai (landline) India 1 0.45",
            "+919800 India mobile, Airtel series India 1 0.90",
            "+9111 Delhi (landline) India 1 0.55",
            "- - - 1 0",
        ]
    );
    assert_eq!(
        rows(
            &db,
            &format!("hangup_cause_code hangup_cause hangup_name outcome {few}"),
            "vobiz.billing_hangup order by day, hangup_cause_code"
        )
        .await,
        [
            "3000 NO_ANSWER No Answer no_answer 1 0.02",
            "4000 NORMAL_CLEARING Normal Hangup completed 2 1.35",
            "4010 NORMAL_CLEARING End Of XML Instructions completed 1 0.55",
            "7777 WEIRD - unknown 1 0",
        ]
    );
    assert_eq!(
        rows(&db, &format!("our_number {few}"), "vobiz.billing_number order by day, customer, currency")
            .await,
        ["+911100000001 2 1.35", "+911100000001 1 0.02", "+911100000001 1 0", "+911100000001 1 0.55"]
    );
    assert_eq!(
        rows(
            &db,
            &format!("region origination_region {few}"),
            "vobiz.billing_region where region is not null"
        )
        .await,
        ["ap-south-1 mumbai 1 0.90", "ap-south-1 - 1 0.45"]
    );
    assert_eq!(
        rows(&db, &format!("campaign_id {few}"), "vobiz.billing_campaign where campaign_id is not null")
            .await,
        ["C1 1 0.90"]
    );
    assert_eq!(
db.texts("select concat_ws(' ', account_id, listed_by, sum(calls)) from vobiz.billing_sub_account group by account_id, listed_by")
            .await,
        ["MA_TESTAB12 MA_TESTAB12 5"]
    );
}

#[tokio::test]
async fn traffic_counts_conversations_and_its_peak_counts_legs() {
    let db = Database::with_a_bill().await;
    let columns = "day call_direction conversations answered asr_percent ner_percent acd_seconds talked_seconds ring_median \
                   ring_p95 post_dial_delay_median busy_hour busy_hour_conversations peak_legs account_peak_legs";
    assert_eq!(
        rows(&db, columns, "vobiz.traffic_day order by day, call_direction").await,
        [
            "2026-03-10 outbound 2 1 50.00 100.00 61.0 61 12.5 19.3 1.0 9 1 2 2",
            // a3 of the day before still rings at midnight, when a4 begins.
            "2026-03-11 inbound 1 1 100.00 100.00 60.0 60 3.0 3.0 - 0 1 1 2",
            "2026-03-11 outbound 1 0 0.00 0.00 - 0 - - - 10 1 1 2",
        ]
    );
}

#[tokio::test]
async fn quality_is_that_of_legs_with_media() {
    let db = Database::with_a_bill().await;
    let columns = "day codec trunk_id call_direction calls answered_without_media mos_mean mos_median mos_p5 mos_min poor_percent \
                   jitter_median jitter_p95 packet_loss_median packet_loss_p95 packet_loss_max";
    assert_eq!(
        rows(&db, columns, "vobiz.quality_day order by day").await,
        [
            "2026-03-10 PCMU T1 outbound 2 0 3.500 3.50 3.05 3.0 50.00 2.00 2.90 0.200 0.290 0.3",
            "2026-03-11 PCMA - inbound 1 0 4.500 4.50 4.50 4.5 0.00 2.00 2.00 0.000 0.000 0",
        ]
    );
    assert_eq!(db.text("select mos::text from vobiz.leg where call_id = 'a3'").await, "-", "0 is no quality");
}

#[tokio::test]
async fn rates_gaps_and_streams_show_what_vobiz_says() {
    let db = Database::with_a_bill().await;
    let columns =
        "prefix answered billsec pulse_minutes cost per_minute per_pulse_minute unanswered unanswered_cost";
    assert_eq!(
        rows(&db, columns, "vobiz.cost_per_minute where day = '2026-03-10' order by prefix").await,
        [
            "+447 0 0 0 0 - - 1 0.02",
            "+9122 1 45 1 0.45 0.600000 0.450000 0 0",
            "+919800 1 61 2 0.90 0.885246 0.450000 0 0",
        ]
    );
    assert_eq!(
        rows(&db, "day call_id currency gap", "vobiz.cost_gap order by call_id").await,
        ["2026-03-11 a4 USD 0.05", "2026-03-11 a5 INR -"],
        "a call without any amount is in no sum, so it is shown"
    );
    let columns = "day call_id number stream_id billed_amount bill_duration rounded_bill_duration termination_reason currency";
    assert_eq!(
        rows(&db, columns, "vobiz.stream order by number").await,
        ["2026-03-11 a4 1 s1 0.20 44 60 Connection error USD", "2026-03-11 a4 2 - - - - - USD",]
    );
}

#[tokio::test]
async fn streams_of_any_form_do_not_break_the_view() {
    let db = Database::new().await;
    let now = db.now().await;
    for (call, streams) in [
        ("object", r#"{"id":"s","billed_amount":1.25}"#),
        ("text", r#""none""#),
        ("numbers", r#"[1,"x",null,[2]]"#),
        ("odd", r#"[{"billed_amount":"1e9999","x":"\u0000"}]"#),
        ("nothing", "null"),
    ] {
        db.upsert(&[&single(&format!(r#"{{"uuid":"{call}","stream_cdrs":{streams}}}"#), now)]).await;
    }
    let found = rows(&db, "call_id stream_id billed_amount", "vobiz.stream where call_id = 'object'").await;
    assert_eq!(found, ["object s 1.25"]);
    assert_eq!(
        db.count("select count(*) from vobiz.stream where call_id = 'numbers' and billed_amount is null")
            .await,
        4
    );
    assert_eq!(db.count("select count(*) from vobiz.stream where call_id in ('text', 'null')").await, 0);
}

#[tokio::test]
async fn in_another_zone_only_the_calls_near_midnight_move() {
    let db = Database::with_a_bill().await;
    let by_day = "select concat_ws(' ', day, sum(calls)) from vobiz.billing_trunk group by day order by day";
    assert_eq!(db.texts(by_day).await, ["2026-03-10 3", "2026-03-11 2"]);
    db.run("update vobiz.setting set billing_zone = 'UTC'").await;
    assert_eq!(db.texts(by_day).await, ["2026-03-10 4", "2026-03-11 1"]);
}

/// Sums of money, calls and seconds over a view, by day, currency and direction.
fn summed(view: &str) -> String {
    format!(
        "select concat_ws(' ', day, billing_zone, account_id, customer, currency, call_direction, sum(calls), sum(answered), sum(unanswered_with_cost),
                sum(duration), sum(billsec), sum(pulse_minutes), trim_scale(sum(cost)), trim_scale(sum(streaming_cost)),
                trim_scale(sum(total_cost)), sum(without_cost), trim_scale(sum(credits)), sum(unclear))
         from vobiz.{view} group by day, billing_zone, account_id, customer, currency, call_direction order by 1"
    )
}

#[tokio::test]
async fn every_view_adds_up_to_the_bill_in_every_zone() {
    let db = Database::new().await;
    // Five days around a change of the clock in Europe, three accounts, calls that lack this and that.
    db.run(
        "select setseed(0.42);
         insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, duration,
           billsec, cost, streaming_cost, total_cost, currency, call_direction, trunk_id, campaign_id, region, hangup_cause,
           hangup_cause_code, destination_e164, caller_e164, bridge_uuid)
         select 'call-' || n, (array['MA_TESTAB12', 'SA_1', 'SA_2'])[1 + n / 8 % 3], 'MA_TESTAB12', 'sweep', 0, now(), 1, sha256('x'),
           timestamptz '2026-03-26 00:00Z' + random() * interval '5 days', (random() * 500)::int,
           nullif((random() * 300)::int * (n % 4), 900), (random() * 9)::numeric(9, 5), case when n % 5 > 0 then (random() * 2)::numeric(9, 3) end,
           case when n % 11 > 0 then (random() * 11)::numeric(9, 5) - n % 3 end, (array['INR', 'USD', null])[1 + n % 7 % 3],
           (array['outbound', 'inbound', null])[1 + n % 13 % 3], case when n % 2 = 0 then 'T' || n % 5 end, case when n % 3 = 0 then 'C' || n % 4 end,
           'r' || n % 3, (array['NORMAL_CLEARING', 'USER_BUSY', 'ODD', null])[1 + n % 4], (array[4000, 3010, 12345, null])[1 + n % 4],
           case when n % 6 > 0 then '+' || (10000000000 + (random() * 980000000000)::bigint) end, '+9111000000' || n % 9, case when n % 4 = 0 then 'b' || n / 8 end
         from generate_series(1, 600) n;
         insert into vobiz.customer_rule (field, value, customer, valid_to) values ('trunk_id', 'T2', 'Acme', '2026-03-28 12:07Z'),
           ('account_id', 'SA_1', 'Sub', 'infinity')",
    )
    .await;
    for zone in ["Asia/Kolkata", "UTC", "Europe/London", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"]
    {
        db.run(&format!("update vobiz.setting set billing_zone = '{zone}'")).await;
        let bill = db.texts(&summed("billing_day")).await;
        assert!(bill.len() > 50);
        for view in [
            "billing_trunk",
            "billing_campaign",
            "billing_number",
            "billing_destination",
            "billing_region",
            "billing_hangup",
            "billing_sub_account",
        ] {
            assert_eq!(db.texts(&summed(view)).await, bill, "{view} in {zone}");
        }
        for (view, count) in
            [("conversation", "legs"), ("cost_per_minute", "answered + unanswered + answered_unknown")]
        {
            let sql = format!("select sum({count})::bigint from vobiz.{view}");
            assert_eq!(db.count(&sql).await, 600, "{view} in {zone}");
        }
        // 75 pairs of legs: the second one belongs to the first if it began not more than 12 hours later.
        let apart = "select count(*) from vobiz.cdr c where not exists (
                       select from vobiz.cdr b where b.bridge_uuid = c.bridge_uuid and b.day_at < c.day_at and b.day_at >= c.day_at - interval '12 hours')";
        let apart = db.count(apart).await;
        assert_eq!(db.count("select count(*) from vobiz.conversation").await, apart, "{zone}");
        assert!((526..600).contains(&apart), "{apart}");
    }
}

#[tokio::test]
async fn a_condition_on_the_day_reads_only_its_calls() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, duration,
           billsec, total_cost, currency, call_direction, bridge_uuid)
         select 'call-' || n, 'MA_TESTAB12', 'MA_TESTAB12', 'sweep', 0, now(), 1, sha256('x'), timestamptz '2026-01-01 00:00Z' + n * interval '5 minutes',
           60, 60, 1, 'INR', 'outbound', 'call-' || n + 1 - 2 * (n % 2)
         from generate_series(1, 20000) n;
         analyze vobiz.cdr",
    )
    .await;
    for view in [
        "billing_trunk",
        "billing_destination",
        "conversation",
        "traffic_day",
        "quality_day",
        "cost_per_minute",
    ] {
        let explain =
            format!("explain (analyze, format json) select * from vobiz.{view} where day = '2026-02-10'");
        let plan: serde_json::Value =
            sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&db.pool).await.unwrap();
        let mut most = 0.0;
        visit(&plan[0]["Plan"], &mut |node| {
            if node["Relation Name"] == "cdr"
                && node["Index Cond"].as_str().is_some_and(|c| c.contains("day_at"))
            {
                most = f64::max(most, node["Actual Rows"].as_f64().unwrap());
            }
            assert!(node["Node Type"] != "Seq Scan" || node["Relation Name"] != "cdr", "{view}: {node}");
        });
        // 288 calls a day; a conversation looks half a day to either side.
        assert!((288.0..=580.0).contains(&most), "{view} read {most} calls");
    }
}

fn visit(node: &serde_json::Value, see: &mut impl FnMut(&serde_json::Value)) {
    see(node);
    for below in node["Plans"].as_array().into_iter().flatten() {
        visit(below, see);
    }
}

#[tokio::test]
async fn the_longest_prefix_wins_and_users_may_add_their_own() {
    let db = Database::with_a_bill().await;
    let prefix = "select prefix from vobiz.leg where call_id = 'a1'";
    assert_eq!(db.text(prefix).await, "+919800");
    db.run("insert into vobiz.prefix values ('+919800000', 'Our own block', 'India')").await;
    assert_eq!(db.text(prefix).await, "+919800000");
    // 8 begins mobile numbers and landlines of Bengaluru.
    db.run("update vobiz.cdr set destination_e164 = '+918023456789' where call_id = 'a1'").await;
    assert_eq!(db.text(prefix).await, "+91802");
    db.run("update vobiz.cdr set destination_e164 = '+918123456789' where call_id = 'a1'").await;
    assert_eq!(db.text(prefix).await, "+918123");
    // A series that several operators share.
    db.run("update vobiz.cdr set destination_e164 = '+918005456789' where call_id = 'a1'").await;
    assert_eq!(db.text(prefix).await, "+918");
    let operators = "select distinct name from vobiz.prefix where name like 'India mobile, %' order by 1";
    assert_eq!(
        db.texts(operators).await,
        ["Airtel", "BSNL", "Jio", "MTNL", "Vi"].map(|operator| format!("India mobile, {operator} series"))
    );
}

#[tokio::test]
async fn an_unanswered_call_keeps_its_day_and_its_fee_when_the_clock_changes() {
    let db = Database::new().await;
    db.run("update vobiz.setting set billing_zone = 'Europe/London'").await;
    // The 29th of March has 23 hours in London: 00:00 to 24:00 are 00:00Z to 23:00Z.
    let start = "2026-03-29T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    for (n, offset) in [-1, 0, 23 * 3600 - 1, 23 * 3600].into_iter().enumerate() {
        let at = (start + TimeDelta::seconds(offset)).to_rfc3339();
        let record = format!(
            r#"{{"uuid":"c{n}","start_time":"{at}","billsec":0,"total_cost":0.02,"currency":"INR"}}"#
        );
        let now = db.now().await;
        db.upsert(&[&single(&record, now)]).await;
    }
    let found =
        rows(&db, "day calls unanswered_with_cost total_cost", "vobiz.billing_trunk order by day").await;
    assert_eq!(found, ["2026-03-28 1 1 0.02", "2026-03-29 2 2 0.04", "2026-03-30 1 1 0.02"]);
}
