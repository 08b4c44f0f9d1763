//! Callbacks on their way: pace, redelivery, loss, and that a seed means the same calls.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use vobiz_cdr::simulator::{Faults, Traffic, TrafficProgress};

use super::*;

/// What a receiver got: the body, and the V3 nonce.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver whose n-th answer `answer` chooses; `None` takes longer than Vobiz waits.
async fn receiver(answer: fn(usize) -> Option<StatusCode>) -> (String, Received) {
    let received = Received::default();
    let log = Arc::clone(&received);
    let app = Router::new().route(
        "/callbacks/{*rest}",
        post(move |headers: HeaderMap, body: String| async move {
            let nonce = headers.get("x-vobiz-signature-v3-nonce").map_or("", |value| value.to_str().unwrap());
            let nth = {
                let mut log = log.lock().unwrap();
                log.push((body, nonce.to_owned()));
                log.len()
            };
            if let Some(status) = answer(nth) {
                return status;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callbacks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, received)
}

#[tokio::test]
async fn a_voice_callback_is_sent_again_until_it_is_answered_200() {
    let (url, received) = receiver(|nth| match nth {
        1 => Some(StatusCode::SERVICE_UNAVAILABLE),
        2 => Some(StatusCode::NO_CONTENT),
        _ => Some(StatusCode::OK),
    })
    .await;
    let callback_backoff = Duration::from_millis(10);
    let vobiz =
        start(SimulatorOptions { callback_url: Some(format!("{url}/voice")), callback_backoff, ..options() })
            .await;
    let call = vobiz.place_call(CallSpec::default());
    let delivery = vobiz.deliver(&call, CallbackKind::Hangup).await.unwrap();
    assert_eq!((delivery.attempts, delivery.acknowledged()), (3, true));
    let log = received.lock().unwrap();
    assert!(
        log.iter().all(|(body, nonce)| (body, nonce) == (&log[0].0, &log[0].1)),
        "the same request each time"
    );
    assert_eq!(log[0].0, callback_body(&call, CallbackKind::Hangup));
    let stats = vobiz.stats();
    assert_eq!((stats.callbacks_sent, stats.callbacks_acknowledged), (3, 1));
    assert!(vobiz.calls()[0].acknowledged);
}

#[tokio::test]
async fn vobiz_gives_up_after_three_redeliveries_and_on_a_trunk_at_once() {
    let (url, received) = receiver(|_| Some(StatusCode::FORBIDDEN)).await;
    let vobiz = start(SimulatorOptions {
        callback_url: Some(format!("{url}/voice")),
        trunk_url: Some(format!("{url}/trunk/secret")),
        callback_backoff: Duration::from_millis(1),
        ..options()
    })
    .await;
    let call = vobiz.place_call(CallSpec::default());
    assert_eq!(vobiz.deliver(&call, CallbackKind::Hangup).await.unwrap().attempts, 4);
    let trunk = vobiz.place_call(CallSpec { kind: CallKind::Trunk, ..CallSpec::default() });
    let delivery = vobiz.deliver(&trunk, CallbackKind::TrunkHangup).await.unwrap();
    assert_eq!((delivery.attempts, delivery.status), (1, Some(StatusCode::FORBIDDEN)));
    assert_eq!(received.lock().unwrap().len(), 5);
    assert!(vobiz.calls().iter().all(|truth| !truth.acknowledged));
    assert_eq!(vobiz.send_form(MAIN, &[("Event", "DialHangup")]).await.unwrap(), 403);
    vobiz.set_callback_url("http://127.0.0.1:9/nobody");
    assert_eq!(vobiz.deliver(&call, CallbackKind::Hangup).await.unwrap().status, None);
}

#[tokio::test]
async fn an_answer_after_three_seconds_is_none() {
    let (url, received) = receiver(|nth| (nth > 1).then_some(StatusCode::OK)).await;
    let callback_backoff = Duration::from_millis(1);
    let vobiz =
        start(SimulatorOptions { callback_url: Some(format!("{url}/voice")), callback_backoff, ..options() })
            .await;
    let call = vobiz.place_call(CallSpec::default());
    let sent = tokio::time::Instant::now();
    let delivery = vobiz.deliver(&call, CallbackKind::Hangup).await.unwrap();
    assert_eq!((delivery.attempts, delivery.acknowledged()), (2, true));
    assert!(sent.elapsed() >= Duration::from_secs(3), "{:?}", sent.elapsed());
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn traffic_announces_every_call_but_the_lost_ones() {
    let (url, received) = receiver(|_| Some(StatusCode::OK)).await;
    let faults = Faults { lost_callback: 0.2, duplicated_callback: 0.3, ..Faults::default() };
    let vobiz = start(SimulatorOptions {
        callback_url: Some(format!("{url}/voice")),
        trunk_url: Some(format!("{url}/trunk/secret")),
        faults,
        ..options()
    })
    .await;
    let progress = Arc::new(TrafficProgress::default());
    let traffic = Traffic {
        calls: 150,
        per_second: 500,
        trunk_share: 0.3,
        spread: Duration::from_secs(3600),
        ..Traffic::default()
    };
    let began = tokio::time::Instant::now();
    let summary = vobiz.run(&traffic, &progress).await;
    assert!(began.elapsed() >= Duration::from_millis(290), "the pace is kept");
    assert_eq!(summary, progress.summary());
    assert_eq!((summary.placed, summary.unacknowledged), (150, 0));
    assert_eq!(summary.acknowledged + summary.lost, 150);
    assert!((10..60).contains(&summary.lost), "{summary:?}");
    let acknowledged: HashSet<_> =
        vobiz.calls().into_iter().filter(|truth| truth.acknowledged).map(|truth| truth.call_id).collect();
    assert_eq!(acknowledged.len() as u64, summary.acknowledged);

    let log = received.lock().unwrap().clone();
    let hangups: Vec<String> = log
        .iter()
        .filter(|(body, _)| body.contains("Event=Hangup") || body.contains(r#""Event":"Hangup""#))
        .map(|(body, _)| match body.split_once("CallUUID=") {
            Some((_, rest)) => rest.split('&').next().unwrap().to_owned(),
            None => serde_json::from_str::<Value>(body).unwrap()["CallUUID"].as_str().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(hangups.iter().cloned().collect::<HashSet<_>>(), acknowledged);
    assert!(hangups.len() > acknowledged.len() + 20, "some came twice");
    for event in ["Event=Ring", "Event=StartApp", r#""Event":"CallInitiated""#] {
        assert!(log.iter().any(|(body, _)| body.contains(event)), "{event}");
    }
    let nonces: HashSet<_> = log.iter().map(|(_, nonce)| nonce).filter(|nonce| !nonce.is_empty()).collect();
    let signed = log.iter().filter(|(_, nonce)| !nonce.is_empty()).count();
    assert_eq!(nonces.len(), signed, "each delivery has its own nonce");
    let ends: HashSet<_> = body(get(&vobiz, "?per_page=100").await).await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["end_time"].to_string())
        .collect();
    assert!(ends.len() > 50, "ends are spread over the hour");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_calls_whatever_one_spec_fixes() {
    let ended_at = time("2026-03-25T10:00:42Z");
    let mut runs = Vec::new();
    for (seed, faults) in [(7, Faults::default()), (7, Faults::some()), (8, Faults::default())] {
        let vobiz = start(SimulatorOptions { seed, faults, ..options() }).await;
        let calls: Vec<Call> = (0..200)
            .map(|n| {
                let kind = if n % 5 == 0 { CallKind::Trunk } else { CallKind::Voice };
                vobiz.place_call(CallSpec { ended_at, kind, ..CallSpec::default() })
            })
            .collect();
        runs.push(calls);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0][0], runs[2][0]);
    let ids: HashSet<_> = runs.iter().skip(1).flatten().map(|call| &call.call_id).collect();
    assert_eq!(ids.len(), 400);

    let vobiz = start(SimulatorOptions { seed: 7, ..options() }).await;
    let fixed = vobiz.place_call(CallSpec {
        ended_at,
        kind: CallKind::Trunk,
        cost: Some(Decimal::TEN),
        ..CallSpec::default()
    });
    assert_eq!(fixed, Call { cost: Decimal::TEN, ..runs[0][0].clone() });

    let calls = &runs[0];
    let share = |test: fn(&Call) -> bool| calls.iter().filter(|call| test(call)).count();
    assert!((100..180).contains(&share(|call| call.answered_at.is_some())));
    assert!((100..180).contains(&share(|call| call.direction == Direction::Outbound)));
    assert!(share(|call| call.kind == CallKind::Trunk && !call.call_id.contains('-')) > 5, "text ids occur");
    assert!(share(|call| call.cost.normalize().scale() > 2) > 5, "more than two decimals occur");
    assert!(share(|call| call.billsec == 0 && !call.cost.is_zero()) > 2, "unanswered calls can cost");
    assert!(share(|call| !call.streaming_cost.is_zero()) > 0, "streaming occurs");
    assert!(calls.iter().all(|call| (call.billsec > 0) == call.answered_at.is_some()));
    let causes: HashSet<_> = calls.iter().map(|call| call.hangup_cause.clone()).collect();
    assert!(causes.len() >= 5, "{causes:?}");
}
