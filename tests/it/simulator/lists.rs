//! Lists: pages and sums that add up, days of another zone, filters, and what a parent sees.

use vobiz_cdr::simulator::{DayOf, SummaryCost};

use super::*;

/// Every row of a list, page by page, as `(uuid, row)`.
async fn read_list(vobiz: &Simulator, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    for page in 1.. {
        let list = body(get(vobiz, &format!("?page={page}&{query}")).await).await;
        assert_eq!(list["count"].as_u64(), Some(list["data"].as_array().unwrap().len() as u64));
        rows.extend(list["data"].as_array().unwrap().iter().cloned());
        assert_eq!(list["pagination"]["has_prev"], page > 1);
        if list["pagination"]["has_next"] == false {
            assert_eq!(list["pagination"]["total"].as_u64(), Some(rows.len() as u64));
            break;
        }
    }
    rows
}

fn money(row: &Value, key: &str) -> Decimal {
    row[key].to_string().parse().unwrap()
}

#[tokio::test]
async fn paging_and_summary_add_up_to_the_last_digit() {
    let vobiz = start(options()).await;
    let start_at: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
    for n in 0..230 {
        // Not in the order of their ends, as late CDRs are not.
        let ended_at = Some(start_at + TimeDelta::seconds((n * 7919) % 86_400));
        let call = vobiz.place_call(CallSpec { ended_at, ..CallSpec::default() });
        vobiz.revise(&call.call_id, |call| call.cost += Decimal::new(1, 5));
    }
    let rows = read_list(&vobiz, "per_page=100").await;
    assert_eq!(rows.len(), 230);
    let ids: HashSet<_> = rows.iter().map(|row| row["uuid"].to_string()).collect();
    assert_eq!(ids.len(), 230);
    assert!(rows.is_sorted_by(|a, b| a["end_time"].as_str() >= b["end_time"].as_str()), "newest first");
    for (per_page, count, pages) in [("", 20, 12), ("per_page=500", 100, 3), ("per_page=0", 20, 12)] {
        let list = body(get(&vobiz, &format!("?{per_page}")).await).await;
        assert_eq!(
            (list["count"].as_u64(), list["pagination"]["pages"].as_u64()),
            (Some(count), Some(pages))
        );
    }
    let beyond = body(get(&vobiz, "?page=99999999999999&per_page=100").await).await;
    assert_eq!((beyond["count"].as_u64(), &beyond["pagination"]["has_next"]), (Some(0), &Value::Bool(false)));

    let response = get(&vobiz, "").await.text().await.unwrap();
    let list: Value = serde_json::from_str(&response).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let documented = json("cdr_list_page.json");
    assert_eq!(names(&list), names(&documented));
    assert_eq!(names(&list["summary"]), names(&documented["summary"]));
    assert_eq!(names(&list["pagination"]), names(&documented["pagination"]));
    let sum = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    let summary = &list["summary"];
    assert_eq!(summary["totalCalls"].as_u64(), Some(230));
    assert_eq!(summary["total_duration_seconds"].as_u64(), Some(sum("duration")));
    assert_eq!(summary["total_billable_seconds"].as_u64(), Some(sum("billsec")));
    let answered = rows.iter().filter(|row| row["billsec"].as_u64() > Some(0)).count() as u64;
    assert_eq!(summary["answeredCalls"].as_u64(), Some(answered));
    assert_eq!(summary["last_call_at"], rows[0]["start_time"]);
    // From the text of the answer: serde_json would pass it through a float.
    let total = response.split(r#""total_cost":"#).last().unwrap().split(',').next().unwrap();
    let cost: Decimal = rows.iter().map(|row| money(row, "total_cost")).sum();
    assert_eq!(total.parse::<Decimal>().unwrap(), cost);
}

#[tokio::test]
async fn no_match_is_an_empty_list_with_a_zeroed_summary() {
    let vobiz = start(options()).await;
    assert_eq!(body(get(&vobiz, "").await).await, json("cdr_list_empty.json"));
}

#[tokio::test]
async fn days_are_cut_in_the_zone_of_the_options() {
    let days = [
        (0, DayOf::Start, &["d", "c"][..]),
        (330, DayOf::Start, &["c", "b"]),
        (330, DayOf::End, &["c", "b", "a"]),
        (0, DayOf::Either, &["d", "c"]),
        (330, DayOf::Either, &["c", "b", "a"]),
    ];
    for (day_zone, day_of, expected) in days {
        let vobiz = start(SimulatorOptions { day_zone, day_of, ..options() }).await;
        for (call_id, started_at, ended_at) in [
            ("a", "2026-03-09T18:20:00Z", "2026-03-09T18:40:00Z"),
            ("b", "2026-03-09T18:30:00Z", "2026-03-09T18:50:00Z"),
            ("c", "2026-03-10T18:29:59Z", "2026-03-10T18:29:59Z"),
            ("d", "2026-03-10T23:59:59Z", "2026-03-11T00:10:00Z"),
        ] {
            vobiz.place_call(CallSpec {
                call_id: text(call_id),
                started_at: time(started_at),
                ended_at: time(ended_at),
                ..CallSpec::default()
            });
        }
        let rows = read_list(&vobiz, "start_date=2026-03-10&end_date=2026-03-10").await;
        let ids: Vec<_> = rows.iter().map(|row| row["uuid"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{day_zone} {day_of:?}");
        assert_eq!(read_list(&vobiz, "start_date=2026-03-10").await.len(), 4, "a single date is ignored");
        assert_eq!(
            read_list(&vobiz, "start_date=2026-03-09&end_date=2026-03-11").await.len(),
            4,
            "both ends inclusive"
        );
    }
}

#[tokio::test]
async fn filters_search_and_recent_show_what_they_are_asked_for() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec {
        kind: CallKind::Trunk,
        sip_call_id: text("dD1qwu5VZ5iK3ed5u3uspjY5RKL"),
        bridge_uuid: text("bridge-1"),
        ..outbound()
    });
    for _ in 0..30 {
        vobiz.place_call(CallSpec { answered: Some(false), ..CallSpec::default() });
    }
    for query in [
        "sip_call_id=dD1qwu5VZ5iK3ed5u3uspjY5RKL",
        "bridge_uuid=bridge-1",
        "context=sip-trunking",
        "min_duration=9&from_number=1100000002&hangup_cause=NORMAL_CLEARING&call_direction=outbound",
        "to_number=%2B915000000001&status=answered",
        "search=5f0e9c1a-3b77",
    ] {
        let rows = read_list(&vobiz, query).await;
        assert_eq!(rows.len(), 1, "{query}");
        assert_eq!(rows[0]["uuid"], call.call_id);
    }
    assert_eq!(read_list(&vobiz, "campaign_id=none").await.len(), 0);
    let search =
        body(get(&vobiz, "/search?call_direction=outbound&hangup_cause=NORMAL_CLEARING").await).await;
    assert_eq!(search["filters"]["call_direction"], "outbound");
    assert_eq!((&search["filters"]["from_number"], search["count"].as_u64()), (&Value::from(""), Some(1)));
    for (query, count) in [("", 20), ("?limit=5", 5), ("?limit=1000", 31)] {
        let recent = body(get(&vobiz, &format!("/recent{query}")).await).await;
        assert_eq!(recent["count"].as_u64(), Some(count));
        assert!(recent.get("pagination").is_none() && recent.get("summary").is_none());
    }
}

#[tokio::test]
async fn a_parent_sees_the_calls_of_its_sub_accounts_when_told_so() {
    for parent_sees_subs in [false, true] {
        let accounts = vec![
            SimulatedAccount::new(MAIN, MAIN_TOKEN),
            SimulatedAccount::new(SUB, SUB_TOKEN).under(MAIN, MAIN_TOKEN),
        ];
        let vobiz = start(SimulatorOptions { accounts, parent_sees_subs, ..options() }).await;
        let call = vobiz.place_call(CallSpec { account: text(SUB), ..CallSpec::default() });
        let rows = read_list(&vobiz, "").await;
        assert_eq!(rows.len(), usize::from(parent_sees_subs));
        assert!(rows.iter().all(|row| row["account_id"] == SUB));
        assert_eq!(fetch(&vobiz, &call).await.status().is_success(), parent_sees_subs);
    }
}

#[tokio::test]
async fn a_cdr_appears_in_list_and_fetch_at_the_same_time() {
    let vobiz = start(SimulatorOptions { cdr_delay: Duration::from_secs(300), ..options() }).await;
    let never = vobiz.place_call(CallSpec { appears_after: Some(Duration::MAX), ..CallSpec::default() });
    let past = vobiz.place_call(outbound());
    let call = vobiz.place_call(CallSpec::default());
    assert_eq!(fetch(&vobiz, &past).await.status(), 200);
    assert_eq!(fetch(&vobiz, &call).await.status(), 404);
    assert_eq!(read_list(&vobiz, "").await.len(), 1);
    vobiz.advance(TimeDelta::seconds(301));
    assert_eq!(read_list(&vobiz, "").await.len(), 2);
    assert_eq!(fetch(&vobiz, &call).await.status(), 200);
    assert_eq!(fetch(&vobiz, &never).await.status(), 404);
    let appeared: Vec<bool> = vobiz.calls().iter().map(|truth| truth.appeared).collect();
    assert_eq!(appeared, [false, true, true]);
}

#[tokio::test]
async fn a_revision_shows_in_fetch_list_and_summary_and_looks_newer() {
    let vobiz = start(SimulatorOptions { summary_cost: SummaryCost::Cost, ..options() }).await;
    let call = vobiz.place_call(CallSpec { streaming_cost: Some(Decimal::ONE), ..CallSpec::default() });
    let before = body(fetch(&vobiz, &call).await).await["data"].clone();
    let revised = vobiz.revise(&call.call_id, |call| call.cost = "7.77".parse().unwrap()).unwrap();
    assert_eq!(revised.total_cost(), "8.77".parse().unwrap());
    let after = body(fetch(&vobiz, &call).await).await["data"].clone();
    assert!(before["updated_at"].as_str() < after["updated_at"].as_str());
    assert_eq!(after["total_cost"].to_string(), "8.77");
    let list = body(get(&vobiz, "").await).await;
    assert_eq!(list["data"][0], after);
    assert_eq!(list["summary"]["total_cost"].to_string(), "7.77", "told to sum `cost`");
    assert_eq!(vobiz.revise("nobody", |_| {}), None);
}
