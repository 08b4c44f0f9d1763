//! What a callback makes us owe, and what a second one changes about it.

use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, Setup, TOKEN};

const OTHER: &str = "MA_OTHER001";
const OTHER_TOKEN: &str = "tok_other";

#[tokio::test]
async fn only_the_end_of_a_call_is_owed() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let mut logged = 0;
    for event in [
        "CallInitiated",
        "Ring",
        "StartApp",
        "Redirect",
        "MachineDetection",
        "Record",
        "RecordStop",
        "DialAnswer",
        "DialConnected",
        "DialDigitsMatch",
        "DialAction",
        "ConferenceEnter",
        "ConferenceExit",
        "StopStream",
        "Hangups",
        "campaign.completed",
        "",
    ] {
        let form = format!("Event={event}&CallUUID=a&DialBLegUUID=b&call_uuid=c&ParentAuthID={ACCOUNT}");
        let json = format!(
            r#"{{"Event":"{event}","CallUUID":"a","DialBLegUUID":"b","call_uuid":"c","AccountId":"{ACCOUNT}"}}"#
        );
        for callback in [
            Callback::post(form.clone()).by_v3(TOKEN),
            Callback::get(&form).by_secret(),
            Callback::post(json).by_secret(),
        ] {
            assert_eq!(endpoint.status(callback).await, 200, "{event}");
            logged += 1;
        }
    }
    assert_eq!(database.count("select count(*) from vobiz.callback where outcome = 'logged'").await, logged);
    assert_eq!(database.queue().await, [""; 0]);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_dialled_leg_is_speculative_and_the_first_leg_is_not_over() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let dial = |a: &str, b: &str| {
        Callback::post(format!("Event=DialHangup&CallUUID={a}&DialALegUUID={a}&DialBLegUUID={b}"))
            .by_v3(TOKEN)
    };
    assert_eq!(endpoint.status(dial("a", "b")).await, 200);
    assert_eq!(database.queue().await, [format!("b {ACCOUNT} speculative proven")]);
    assert_eq!(endpoint.status(dial("a", "a")).await, 200);
    assert_eq!(endpoint.status(dial("a", "")).await, 200);
    assert_eq!(database.queue().await.len(), 1);
    // When the first leg ends it says so itself, and so may the second.
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    assert_eq!(endpoint.status(Callback::hangup("b").by_v3(TOKEN)).await, 200);
    assert_eq!(
        database.queue().await,
        [format!("a {ACCOUNT} certain proven"), format!("b {ACCOUNT} certain proven")]
    );
    assert_eq!(
        database.log().await,
        [
            format!("DialHangup b {ACCOUNT} v3 owed"),
            format!("DialHangup a {ACCOUNT} v3 logged"),
            format!("DialHangup a {ACCOUNT} v3 logged"),
            format!("Hangup a {ACCOUNT} v3 owed"),
            format!("Hangup b {ACCOUNT} v3 owed"),
        ]
    );
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn what_is_no_call_id_is_logged_and_never_owed() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let long = "x".repeat(300);
    let ids = [
        "../x", "a/b", ".", "..", "search", "recent", "export", "ä", "☎", "a b", "a%00b", "%0a", "a%3Fb",
        &long,
    ];
    for id in ids {
        assert_eq!(endpoint.status(Callback::hangup(id).by_v3(TOKEN)).await, 200, "{id}");
        let json = format!(r#"{{"Event":"Hangup","CallUUID":"{}"}}"#, id.replace('%', "\\u00"));
        assert_eq!(endpoint.status(Callback::post(json).by_secret()).await, 200, "{id}");
    }
    for body in ["Event=Hangup", "Event=Hangup&CallUUID=", r#"{"Event":"Hangup","CallUUID":null}"#] {
        assert_eq!(endpoint.status(Callback::post(body).by_secret()).await, 200, "{body}");
    }
    assert_eq!(database.queue().await, [""; 0]);
    let kept = "select count(*) from vobiz.callback where outcome = 'logged' and call_id is null and note is not null";
    assert_eq!(database.count(kept).await, 2 * 14 + 3);
    // The longest that is one.
    assert_eq!(endpoint.status(Callback::hangup(&long[..255]).by_v3(TOKEN)).await, 200);
    assert_eq!(database.queue().await.len(), 1);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_repeated_callback_owes_one_cdr() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for _ in 0..3 {
        assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    }
    assert_eq!(
        database.log().await,
        [
            format!("Hangup a {ACCOUNT} v3 owed"),
            format!("Hangup a {ACCOUNT} v3 owed"),
            format!("Hangup a {ACCOUNT} v3 owed")
        ]
    );
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain proven")]);
    // The first one counts: a repeat moves no clock.
    let first = "select count(*) from vobiz.cdr_queue
                 where announced_at = (select min(received_at) from vobiz.callback)
                   and due_at = announced_at + interval '4 seconds'";
    assert_eq!(database.count(first).await, 1);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn fifty_callbacks_of_one_call_at_once_owe_one_cdr() {
    let database = Database::new().await;
    let endpoint = Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
    let callbacks = (0..50).map(|n| {
        let callback = Callback::post(format!("Event=Hangup&CallUUID=a&n={n}"));
        if n % 2 == 0 { callback.by_v3(TOKEN) } else { callback }
    });
    assert!(endpoint.answers(callbacks).await.iter().all(|answer| answer.status == 200));
    assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain proven")]);
    assert_eq!(database.count("select count(distinct body) from vobiz.callback").await, 50);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn certainty_is_added_and_a_proven_account_replaces_a_guess() {
    for at_once in [false, true] {
        let database = Database::new().await;
        let endpoint = Setup {
            policy: SignaturePolicy::Optional,
            accounts: vec![ACCOUNT, OTHER],
            tokens: vec![(ACCOUNT, TOKEN), (OTHER, OTHER_TOKEN)],
            ..Setup::default()
        }
        .open(&database.pool);
        let says = |call_id: &str, account: &str| {
            Callback::post(format!("Event=Hangup&CallUUID={call_id}&ParentAuthID={account}"))
        };
        let trunk = |call_id: &str| {
            Callback::post(format!(
                r#"{{"Event":"Hangup","CallUUID":"{call_id}","AccountId":"{ACCOUNT}","SIPCallID":"s@1"}}"#
            ))
        };
        let dial =
            |call_id: &str| Callback::post(format!("Event=DialHangup&CallUUID=x&DialBLegUUID={call_id}"));
        let callbacks = [
            // A guess, then a proof that says otherwise, then the guess again.
            says("a", ACCOUNT),
            says("a", OTHER).by_v3(OTHER_TOKEN),
            says("a", ACCOUNT),
            // A certain call whose account nobody proved, then a B leg whose account is.
            says("b", ACCOUNT).by_secret(),
            dial("b").by_v3(OTHER_TOKEN),
            // The first proof stays.
            says("c", ACCOUNT).by_v3(TOKEN),
            says("c", OTHER).by_v3(OTHER_TOKEN),
            // A guess does not replace a guess.
            says("d", ACCOUNT),
            says("d", OTHER),
            // A SIP Call-ID that comes later is kept.
            says("e", ACCOUNT),
            trunk("e"),
        ];
        if at_once {
            let lock = database.lock_log().await;
            let waiting = endpoint.send_all(callbacks);
            database.writer_waits().await;
            lock.rollback().await.unwrap();
            for answer in waiting {
                assert_eq!(answer.await.unwrap().status, 200);
            }
        } else {
            for callback in callbacks {
                assert_eq!(endpoint.status(callback).await, 200);
            }
        }
        assert_eq!(
            database.queue().await,
            [
                format!("a {OTHER} certain proven"),
                format!("b {OTHER} certain proven"),
                format!("c {ACCOUNT} certain proven"),
                format!("d {ACCOUNT} speculative"),
                format!("e {ACCOUNT} speculative"),
            ],
            "at once: {at_once}"
        );
        assert_eq!(database.text("select sip_call_id from vobiz.cdr_queue where call_id = 'e'").await, "s@1");
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn a_stored_call_is_not_owed_again_and_learns_of_its_callback() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    database
        .run(
            "insert into vobiz.cdr
               (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, first_callback_at)
             select call_id, 'MA_TESTAB12', 'MA_TESTAB12', 'sweep', 0, vobiz.now(), 1, sha256('x'), told
             from (values ('a', null), ('b', null), ('c', '2026-01-01T00:00Z'::timestamptz)) as v (call_id, told)",
        )
        .await;
    let callbacks = ["a", "c", "d", "a"].map(|call_id| Callback::hangup(call_id).by_v3(TOKEN));
    assert!(endpoint.answers(callbacks).await.iter().all(|answer| answer.status == 200));
    assert_eq!(database.queue().await, [format!("d {ACCOUNT} certain proven")]);
    let told = "select count(*) from vobiz.cdr where call_id = 'a' and first_callback_at >=
                  (select min(received_at) from vobiz.callback)";
    database.comes_to(1, told).await;
    let as_they_were = "select count(*) from vobiz.cdr
                        where (call_id = 'b' and first_callback_at is null)
                           or (call_id = 'c' and first_callback_at = '2026-01-01T00:00Z')";
    assert_eq!(database.count(as_they_were).await, 2);
    assert_eq!(database.count("select count(*) from vobiz.callback where outcome = 'owed'").await, 4);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_callback_revives_no_dead_letter_and_hurries_no_lease() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    database
        .run(
            "insert into vobiz.cdr_queue
               (call_id, account_id, account_proven, certain, due_at, lease_id, failures, error_class, last_error,
                first_failed_at, dead_at)
             values ('dead', 'MA_TESTAB12', true, true, '2026-01-01', 1, 5, 'refused', 'x', '2026-01-01', '2026-01-02'),
                    ('leased', 'MA_TESTAB12', true, true, '2026-01-01', 2, 0, null, null, null, null)",
        )
        .await;
    for call_id in ["dead", "leased"] {
        assert_eq!(endpoint.status(Callback::hangup(call_id).by_v3(TOKEN)).await, 200);
    }
    let as_they_were = "select count(*) from vobiz.cdr_queue
                        where due_at = '2026-01-01' and (dead_at = '2026-01-02') is not distinct from (case call_id when 'dead' then true end)
                          and lease_id is not null and failures in (0, 5)";
    assert_eq!(database.count(as_they_were).await, 2);
    // They were owed without a callback until now.
    assert_eq!(database.count("select count(*) from vobiz.cdr_queue where announced_at is null").await, 0);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn new_speculative_calls_are_capped_and_certain_ones_are_not() {
    let database = Database::new().await;
    let setup = Setup {
        policy: SignaturePolicy::Optional,
        accounts: vec![ACCOUNT, OTHER],
        max_speculative_per_minute: 3,
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    let says = |call_id: &str, account: &str| {
        Callback::post(format!("Event=Hangup&CallUUID={call_id}&ParentAuthID={account}"))
    };
    // Repeats of two calls: each counts once.
    for _ in 0..10 {
        for call_id in ["a", "b"] {
            assert_eq!(endpoint.status(says(call_id, ACCOUNT)).await, 200);
        }
    }
    for call_id in ["c", "d", "e"] {
        assert_eq!(
            endpoint.status(says(call_id, ACCOUNT)).await,
            200,
            "over the cap is no fault of the sender"
        );
    }
    for callback in [says("f", ACCOUNT).by_v3(TOKEN), says("g", ACCOUNT).by_secret(), says("h", OTHER)] {
        assert_eq!(endpoint.status(callback).await, 200);
    }
    assert_eq!(
        database.queue().await,
        [
            format!("a {ACCOUNT} speculative"),
            format!("b {ACCOUNT} speculative"),
            format!("c {ACCOUNT} speculative"),
            format!("f {ACCOUNT} certain proven"),
            format!("g {ACCOUNT} certain"),
            format!("h {OTHER} speculative"),
        ]
    );
    let over = "select string_agg(call_id, ' ' order by call_id) from vobiz.callback
                where outcome = 'logged' and note = 'over the cap on speculative calls: left to the sweep'";
    assert_eq!(database.text(over).await, "d e");
    // Proof comes after all.
    assert_eq!(endpoint.status(says("d", ACCOUNT).by_v3(TOKEN)).await, 200);
    assert_eq!(database.queue().await[3], format!("d {ACCOUNT} certain proven"));
    database.every_certain_call_is_somewhere().await;
}

/// Whoever has learnt the secret can make up any number of certain calls: those that a signature proves are not counted.
#[tokio::test]
async fn certain_calls_by_a_secret_are_capped_and_what_is_beyond_is_speculative() {
    for signed_first in [false, true] {
        let database = Database::new().await;
        let setup = Setup {
            accounts: vec![ACCOUNT, OTHER],
            max_speculative_per_minute: 4,
            max_by_secret_per_minute: 3,
            ..Setup::default()
        };
        let endpoint = setup.open(&database.pool);
        let says = |call_id: &str, account: &str| {
            Callback::post(format!("Event=Hangup&CallUUID={call_id}&ParentAuthID={account}"))
        };
        if signed_first {
            assert_eq!(endpoint.status(says("signed", ACCOUNT).by_v3(TOKEN)).await, 200);
        }
        // Repeats of one call count once.
        for _ in 0..10 {
            assert_eq!(endpoint.status(says("forged-0", ACCOUNT).by_secret()).await, 200);
        }
        for n in 1..10 {
            assert_eq!(endpoint.status(says(&format!("forged-{n}"), ACCOUNT).by_secret()).await, 200);
        }
        if !signed_first {
            assert_eq!(endpoint.status(says("signed", ACCOUNT).by_v3(TOKEN)).await, 200);
        }
        assert_eq!(endpoint.status(says("another", OTHER).by_secret()).await, 200);
        let queue = "select string_agg(concat_ws(' ', call_id, certain, by_secret), ', ' order by call_id) from vobiz.cdr_queue";
        assert_eq!(
            database.text(queue).await,
            "another t t, forged-0 t t, forged-1 t t, forged-2 t t, forged-3 f f, forged-4 f f, forged-5 f f, forged-6 f f, signed t f"
        );
        let notes = "select string_agg(distinct note, ', ' order by note) from vobiz.callback";
        assert_eq!(
            database.text(notes).await,
            "over the cap on certain calls by a secret: speculative, over the cap on speculative calls: left to the sweep"
        );
        let metrics = endpoint.metrics.text();
        assert!(metrics.contains("vobiz_cdr_callbacks_over_cap_total 7"), "{metrics}");
        assert_eq!(endpoint.metrics.arrivals.counts().by_kind["over_cap"], 7);
        // Proof comes after all.
        assert_eq!(endpoint.status(says("forged-9", ACCOUNT).by_v3(TOKEN)).await, 200);
        let proven =
            "select (certain and not by_secret)::text from vobiz.cdr_queue where call_id = 'forged-9'";
        assert_eq!(database.text(proven).await, "true");
        database.every_certain_call_is_somewhere().await;
    }
}
