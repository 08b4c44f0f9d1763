//! Faults, scripted and drawn, as a client meets them.

use tokio::time::Instant;
use vobiz_cdr::simulator::{Answer, Faults, Odd, RequestKind, RetryAfter};

use super::*;
use crate::support::wait::{until, until_some};

#[tokio::test]
async fn each_scripted_answer_is_given_once_and_then_all_is_well() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec::default());
    let soon = vobiz.now() + TimeDelta::milliseconds(200);
    vobiz.script(
        &call.call_id,
        [
            Answer::NotFound,
            Answer::server_error(),
            Answer::denied(),
            Answer::Html,
            Answer::SuccessFalse,
            Answer::DataNull,
            Answer::Empty,
            Answer::WrongUuid,
            Answer::Body("{\"data\":{}}".to_owned()),
            Answer::Redirect("http://127.0.0.1:9/elsewhere".to_owned()),
            Answer::NotFoundUntil(soon),
        ],
    );
    let expected = [
        (404, r#"{"error":"CDR not found"}"#),
        (500, "INTERNAL_ERROR"),
        (401, "invalid credentials"),
        (502, "<html>"),
        (200, r#"{"success":false}"#),
        (200, r#"{"data":null,"success":true}"#),
        (200, ""),
        (200, r#""uuid":"00000000-0000-4000-8000-000000000000""#),
        (200, r#"{"data":{}}"#),
        (302, ""),
    ];
    for (status, part) in expected {
        let response = fetch(&vobiz, &call).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("location").is_some(), status == 302);
        let text = response.text().await.unwrap();
        assert!(text.contains(part) && (!part.is_empty() || text.is_empty()), "{status} {text}");
    }
    while vobiz.now() < soon {
        let status = fetch(&vobiz, &call).await.status();
        assert!(status == 404 || vobiz.now() >= soon);
    }
    assert_eq!(body(fetch(&vobiz, &call).await).await["data"]["uuid"], call.call_id);
    let stats = vobiz.stats();
    assert_eq!(stats.statuses[&302], 1);
    assert_eq!(stats.fetches_of(&call.call_id), stats.requests_of(RequestKind::Single));
}

#[tokio::test]
async fn each_form_of_429_says_when_to_come_back_in_its_own_way() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec::default());
    vobiz.script(&call.call_id, RetryAfter::each(30).map(Answer::Throttled));
    let before = std::time::SystemTime::now();
    let mut headers = Vec::new();
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let response = fetch(&vobiz, &call).await;
        assert_eq!(response.status(), 429);
        headers.push(response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned()));
        bodies.push(body(response).await);
    }
    let date = |n: usize| httpdate::parse_http_date(headers[n].as_deref().unwrap()).unwrap();
    let now = std::time::SystemTime::now();
    assert_eq!(headers[0].as_deref(), Some("30"));
    assert!(date(1) > before + Duration::from_secs(28) && date(1) <= now + Duration::from_secs(30));
    assert!(date(2) < now);
    assert_eq!((&headers[3], &headers[4]), (&None, &None));
    let waits: Vec<_> = bodies.iter().map(|b| b["error"]["details"]["retryAfter"].as_u64()).collect();
    assert_eq!(waits, [None, None, None, Some(30), None]);
    assert_eq!(bodies[3], json("error_429_body_only.json"));
}

#[tokio::test]
async fn half_a_body_a_reset_and_a_slow_answer_break_the_client() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec::default());
    let slow = Answer::Slow(Duration::from_millis(300));
    vobiz.script(&call.call_id, [Answer::HalfBody, Answer::Reset, slow.clone(), Answer::Slow(Duration::MAX)]);

    let mut half = fetch(&vobiz, &call).await;
    let promised = half.content_length().unwrap();
    assert_eq!(half.status(), 200);
    let mut received = 0;
    let error = loop {
        match half.chunk().await {
            Ok(Some(chunk)) => received += chunk.len() as u64,
            Ok(None) => panic!("the body ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(received > 0 && received < promised, "{received} of {promised}: {error}");

    let path = format!("Account/{MAIN}/cdr/{}", call.call_id);
    let reset = get_as(&vobiz, MAIN, MAIN_TOKEN, &path).await.unwrap_err();
    assert!(reset.is_request() && reset.status().is_none(), "{reset:?}");

    let asked = Instant::now();
    assert_eq!(fetch(&vobiz, &call).await.status(), 200);
    assert!(asked.elapsed() >= Duration::from_millis(300));

    // A client that gives up leaves nothing open behind it.
    tokio::select! {
        _ = fetch(&vobiz, &call) => panic!("it was answered"),
        () = until("its request is there", async || vobiz.stats().fetches_of(&call.call_id) == 4) => {}
    }
    assert_eq!(vobiz.stats().resets, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    vobiz.script(&call.call_id, [slow.clone(), slow]);
    let both = tokio::join!(fetch(&vobiz, &call), fetch(&vobiz, &call));
    assert_eq!((both.0.status().as_u16(), both.1.status().as_u16()), (200, 200));
    assert_eq!(vobiz.stats().max_concurrent_fetches, 2);
}

#[tokio::test]
async fn an_account_can_be_down_or_denied_while_the_others_work() {
    let accounts = vec![SimulatedAccount::new(MAIN, MAIN_TOKEN), SimulatedAccount::new("MA_B", "b")];
    let vobiz = start(SimulatorOptions { accounts, ..options() }).await;
    let call = vobiz.place_call(CallSpec { account: text(MAIN), ..CallSpec::default() });
    let statuses =
        async || (fetch(&vobiz, &call).await.status().as_u16(), get(&vobiz, "").await.status().as_u16());
    vobiz.script_account(MAIN, Some(Answer::server_error()));
    assert_eq!(statuses().await, (500, 500));
    assert_eq!(get_as(&vobiz, "MA_B", "b", "Account/MA_B/cdr").await.unwrap().status(), 200);
    vobiz.script_account(MAIN, None);
    vobiz.script_fetches(MAIN, Some(Answer::denied()));
    assert_eq!(statuses().await, (401, 200));
    vobiz.script_fetches(MAIN, None);
    assert_eq!(statuses().await, (200, 200));
}

#[tokio::test]
async fn the_rate_limit_refuses_what_exceeds_it_in_any_second() {
    // All within a second, as soon as the machine is quick enough for them.
    let (vobiz, statuses) = until_some("they came within a second", async || {
        let vobiz = start(SimulatorOptions {
            rate_limit: Some(10),
            rate_limit_says: RetryAfter::BodyOnly(1),
            ..options()
        })
        .await;
        let asked = Instant::now();
        let all = (0..25).map(|_| async { get(&vobiz, "").await.status().as_u16() });
        let statuses = futures_util::future::join_all(all).await;
        let took = asked.elapsed();
        if took < Duration::from_secs(1) { Ok((vobiz, statuses)) } else { Err(took) }
    })
    .await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 10, "{statuses:?}");
    let asked = vobiz.stats().accounts[MAIN];
    assert_eq!((asked.requests, asked.busiest_second), (25, 25));
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(get(&vobiz, "").await.status(), 200);
}

#[tokio::test]
async fn drawn_faults_hit_their_share_and_the_same_calls_again() {
    let faults =
        Faults { server_error: 0.3, revised_later: 1.0, revised_after: Duration::ZERO, ..Faults::default() };
    let mut hit = Vec::new();
    for throttled in [0.0, 0.5] {
        let vobiz =
            start(SimulatorOptions { faults: Faults { throttled, ..faults.clone() }, ..options() }).await;
        let mut failed = Vec::new();
        for _ in 0..100 {
            let call = vobiz.place_call(CallSpec { cost: Some(Decimal::ONE), ..CallSpec::default() });
            let mut status = fetch(&vobiz, &call).await.status();
            if status == 429 {
                status = fetch(&vobiz, &call).await.status();
            }
            if status == 500 {
                failed.push(call.sequence);
            }
            let cdr = body(fetch(&vobiz, &call).await).await["data"].clone();
            assert_eq!(cdr["cost"].to_string(), "1.05");
            assert!(cdr["updated_at"].as_str() > cdr["created_at"].as_str());
        }
        assert!((15..45).contains(&failed.len()), "{failed:?}");
        hit.push(failed);
    }
    assert_eq!(hit[0], hit[1], "another fault leaves the others where they were");
}

#[tokio::test]
async fn a_clock_that_runs_ahead_shows_in_the_date_and_in_the_times() {
    let before = std::time::SystemTime::now();
    let vobiz = start(SimulatorOptions { clock_ahead: 7200, ..options() }).await;
    let call = vobiz.place_call(CallSpec::default());
    let response = fetch(&vobiz, &call).await;
    let date = httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).unwrap();
    let ahead = |of| date.duration_since(of).unwrap();
    // The header has no fractions of a second.
    assert!(ahead(before) > Duration::from_secs(7198));
    assert!(ahead(std::time::SystemTime::now()) <= Duration::from_secs(7200));
    assert!(call.ended_at >= DateTime::<Utc>::from(before) + TimeDelta::seconds(7199));
}

#[tokio::test]
async fn a_stopped_vobiz_refuses_connections() {
    let vobiz = start(options()).await;
    let call = vobiz.place_call(CallSpec::default());
    vobiz.script(&call.call_id, [Answer::Slow(Duration::from_secs(60))]);
    let path = format!("Account/{MAIN}/cdr/{}", call.call_id);
    let (open, ()) = tokio::join!(get_as(&vobiz, MAIN, MAIN_TOKEN, &path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        vobiz.stop().await;
    });
    assert!(open.is_err(), "what was open is cut");
    assert!(get_as(&vobiz, MAIN, MAIN_TOKEN, &path).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn odd_values_stand_in_list_and_fetch_alike_and_shift_no_other_call() {
    let usual = start(options()).await;
    let faults = Faults { impossible_seconds: 0.5, no_id: 0.5, upper_case_id: 1.0, ..Faults::default() };
    let vobiz = start(SimulatorOptions { faults, ..options() }).await;
    let (mut odd, mut no_id) = (0, 0);
    for _ in 0..100 {
        let (call, plain) = (vobiz.place_call(CallSpec::default()), usual.place_call(CallSpec::default()));
        assert_eq!((&call.call_id, call.billsec, call.cost), (&plain.call_id, plain.billsec, plain.cost));
        let cdr = body(fetch(&vobiz, &call).await).await["data"].clone();
        let is_odd = cdr["billsec"] != call.billsec;
        assert_eq!(is_odd, call.set.contains_key("billsec"));
        odd += usize::from(is_odd);
        let form = callback_body(&call, CallbackKind::Hangup);
        let named = form.split('&').find_map(|pair| pair.strip_prefix("CallUUID=")).unwrap();
        assert_ne!(named, call.call_id);
        no_id += usize::from(named != call.call_id.to_uppercase());
    }
    assert!((25..75).contains(&odd) && (25..75).contains(&no_id), "{odd} {no_id}");
    let list = get(&vobiz, "?per_page=100").await.text().await.unwrap();
    let seconds = ["-1589286045", "-1", "2592001", "4294967295"]
        .map(|seconds| list.matches(&format!("\"billsec\":{seconds},")).count());
    assert_eq!(seconds.iter().sum::<usize>(), odd);
    assert!(seconds.iter().all(|forms| *forms > 0), "{seconds:?}");
}

#[tokio::test]
async fn each_odd_value_has_its_forms_and_only_two_are_no_json() {
    let vobiz = start(options()).await;
    for odd in [
        Odd::NoTime,
        Odd::TimeSpelling,
        Odd::ImpossibleSeconds,
        Odd::SecondsSpelling,
        Odd::ImpossibleMeasure,
        Odd::WordSpelling,
        Odd::LongAmount,
        Odd::BadToken,
        Odd::BrokenRow,
    ] {
        let mut forms = HashSet::new();
        for nth in 0..40 {
            let mut call = vobiz.place_call(CallSpec::default().with("codec", "\"kept\""));
            odd.apply(&mut call, nth);
            assert_eq!(call.set["codec"].as_deref(), Some("\"kept\""), "what a call sets itself stays");
            forms.insert(format!(
                "{:?}",
                call.set
                    .keys()
                    .zip(call.set.values().map(|v| v.as_ref().map(String::len)))
                    .collect::<Vec<_>>()
            ));
            let revised = vobiz.revise(&call.call_id, |row| row.set.clone_from(&call.set)).unwrap();
            let text = fetch(&vobiz, &revised).await.text().await.unwrap();
            let is_json = serde_json::from_str::<Value>(&text).is_ok();
            assert_eq!(is_json, !matches!(odd, Odd::BadToken | Odd::BrokenRow), "{odd:?} {nth} {text}");
        }
        assert!(forms.len() > 1 || odd == Odd::LongAmount, "{odd:?} {forms:?}");
    }
}
