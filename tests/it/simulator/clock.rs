//! Vobiz's clock, moved by a test: what becomes true with time, and what was true before.

use std::time::Instant;

use vobiz_cdr::simulator::{Answer, Faults, Truth};

use super::*;
use crate::support::wait::until;

async fn listed(vobiz: &Simulator) -> Value {
    body(get(vobiz, "").await).await["pagination"]["total"].clone()
}

fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

#[tokio::test]
async fn an_hour_that_is_skipped_makes_all_of_it_true_at_once() {
    let faults =
        Faults { revised_later: 1.0, revised_after: Duration::from_secs(40 * 60), ..Faults::default() };
    let cdr_delay = Duration::from_secs(30 * 60);
    let vobiz = start(SimulatorOptions { cdr_delay, faults, ..options() }).await;
    let cost = Some(Decimal::ONE);
    let call =
        vobiz.place_call(CallSpec { cost, streaming_cost: Some(Decimal::ZERO), ..CallSpec::default() });
    let scripted = vobiz.place_call(CallSpec::default());
    vobiz.script(&scripted.call_id, [Answer::NotFoundUntil(vobiz.now() + minutes(50))]);
    assert_eq!(fetch(&vobiz, &call).await.status(), 404);
    assert_eq!(listed(&vobiz).await, 0);

    vobiz.advance(minutes(31));
    assert_eq!(body(fetch(&vobiz, &call).await).await["data"]["total_cost"].to_string(), "1");
    assert_eq!(fetch(&vobiz, &scripted).await.status(), 404, "its script has the last word");
    assert_eq!(listed(&vobiz).await, 2);

    vobiz.advance(minutes(60));
    let response = fetch(&vobiz, &call).await;
    let date = httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).unwrap();
    let ahead = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(ahead > Duration::from_secs(80 * 60) && ahead <= Duration::from_secs(91 * 60), "{ahead:?}");
    let cdr = body(response).await["data"].clone();
    assert_eq!(cdr["total_cost"].to_string(), "1.05");
    // The cost settled when it was due, not when it was asked for first.
    let settled_at: DateTime<Utc> = cdr["updated_at"].as_str().unwrap().parse().unwrap();
    let late = settled_at - (call.ended_at + minutes(70));
    assert!(late.abs() <= TimeDelta::seconds(2), "{late}");
    assert_eq!(fetch(&vobiz, &scripted).await.status(), 200);

    vobiz.advance(minutes(-600));
    assert_eq!(fetch(&vobiz, &call).await.status(), 200, "a clock never goes back");
}

#[tokio::test]
async fn a_skipped_hour_does_not_lift_the_rate_limit() {
    let vobiz = start(SimulatorOptions { rate_limit: Some(1), ..options() }).await;
    let call = vobiz.place_call(CallSpec::default());
    // Two requests within a second, as soon as the machine is quick enough for them.
    until("the second one is refused", async || {
        let began = Instant::now();
        let first = fetch(&vobiz, &call).await.status();
        vobiz.advance(minutes(60));
        let second = fetch(&vobiz, &call).await.status();
        let within_a_second = began.elapsed() < Duration::from_secs(1);
        assert!(second == 429 || !within_a_second, "{first} {second}");
        first == 200 && second == 429
    })
    .await;
}

#[tokio::test]
async fn what_was_true_at_an_earlier_instant_can_still_be_said() {
    let faults = Faults { revised_later: 1.0, revised_after: Duration::from_secs(3600), ..Faults::default() };
    let vobiz = start(SimulatorOptions { faults, ..options() }).await;
    let spec =
        || CallSpec { cost: Some(Decimal::ONE), streaming_cost: Some(Decimal::ZERO), ..CallSpec::default() };
    let costs_at = |instant| -> Vec<(String, String)> {
        let shown = |truth: Truth| (truth.call_id, truth.total_cost.normalize().to_string());
        vobiz.truth_at(instant).into_iter().map(shown).collect()
    };
    let before = vobiz.now() - minutes(1);
    let first = vobiz.place_call(spec()).call_id;
    vobiz.advance(minutes(30));
    let placed = vobiz.now();
    vobiz.advance(minutes(10));
    // Nothing is asked in between: the first cost settles at the hour, after this and before what comes next.
    vobiz.revise(&first, |call| call.cost = Decimal::TWO).unwrap();
    vobiz.advance(minutes(10));
    let revised = vobiz.now();
    vobiz.advance(minutes(30));
    let late = CallSpec { appears_after: Some(Duration::from_secs(600)), ..spec() };
    let second = vobiz.place_call(late).call_id;
    let settled = vobiz.now();
    vobiz.advance(minutes(15));
    let both = vobiz.now();
    assert!(vobiz.forget(&first));
    assert!(!vobiz.forget("nobody"));

    let cost = |call: &String, cost: &str| (call.clone(), cost.to_owned());
    assert_eq!(costs_at(before), []);
    assert_eq!(costs_at(placed), [cost(&first, "1")]);
    assert_eq!(costs_at(revised), [cost(&first, "2")]);
    assert_eq!(costs_at(settled), [cost(&first, "2.05")]);
    assert_eq!(costs_at(both), [cost(&first, "2.05"), cost(&second, "1")]);
    assert_eq!(costs_at(vobiz.now()), [cost(&second, "1")]);
}

#[tokio::test]
async fn a_forgotten_call_is_gone_from_fetches_and_lists() {
    let vobiz = start(options()).await;
    let calls = [vobiz.place_call(CallSpec::default()), vobiz.place_call(CallSpec::default())];
    assert_eq!(listed(&vobiz).await, 2);
    assert!(vobiz.forget(&calls[0].call_id));
    assert_eq!(fetch(&vobiz, &calls[0]).await.status(), 404);
    assert_eq!(fetch(&vobiz, &calls[1]).await.status(), 200);
    assert_eq!(listed(&vobiz).await, 1);
    assert_eq!(vobiz.calls().iter().filter(|truth| truth.appeared).count(), 1);
    vobiz.revise(&calls[0].call_id, |call| call.billsec = 1).unwrap();
    assert_eq!(listed(&vobiz).await, 1, "no change brings it back");
}
