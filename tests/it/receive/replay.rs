//! A captured request: its signature covers no body, so it verifies for ever, with anything in it.

use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, Setup, TOKEN, URL};

const NONCE: &str = "12345678901234567890";

/// The same headers around any call.
fn captured(call_id: &str) -> Callback {
    Callback::hangup(call_id).signed("v3", TOKEN, URL, NONCE).signed("v2", TOKEN, URL, NONCE)
}

#[tokio::test]
async fn a_captured_request_proves_no_other_call_after_a_restart_at_another_replica_or_in_another_month() {
    for version in ["v3", "v2"] {
        let database = Database::new().await;
        let one = Setup::default().open(&database.pool);
        assert_eq!(one.status(captured("real")).await, 200);
        // One that has been started since, and one on a connection of its own.
        let replica = vobiz_cdr::db::connect_service(&database.url, "replica", 4).unwrap();
        for (n, endpoint) in
            [one, Setup::default().open(&database.pool), Setup::default().open(&replica)].iter().enumerate()
        {
            let forged = Callback::hangup(&format!("forged-{n}")).signed(version, TOKEN, URL, NONCE);
            assert_eq!(endpoint.status(forged).await, 403, "{version} {n}");
            assert_eq!(endpoint.status(captured("real")).await, 200, "its own call keeps it");
        }
        database.run("update vobiz.callback_nonce set month = month - interval '1 month'").await;
        let later = Setup::default().open(&database.pool);
        let forged = Callback::hangup("forged-later").signed(version, TOKEN, URL, NONCE);
        assert_eq!(later.status(forged).await, 403, "{version}: a month later");
        assert_eq!(database.queue().await, [format!("real {ACCOUNT} certain proven")]);
        let moved = "select count(*) from vobiz.callback_nonce where call_id <> 'real'";
        assert_eq!(database.count(moved).await, 0);
        let notes = "select distinct note from vobiz.callback where outcome = 'refused'";
        assert_eq!(database.text(notes).await, "its nonce was used for another call");
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn of_two_calls_that_come_under_one_nonce_at_once_one_is_proved() {
    for policy in [SignaturePolicy::Required, SignaturePolicy::Optional] {
        let database = Database::new().await;
        let replica = vobiz_cdr::db::connect_service(&database.url, "replica", 4).unwrap();
        let endpoints = [
            Setup { policy, ..Setup::default() }.open(&database.pool),
            Setup { policy, ..Setup::default() }.open(&replica),
        ];
        for n in 0..10 {
            let nonce = format!("77{n}");
            let callback =
                |call: &str| Callback::hangup(&format!("{call}-{n}")).signed("v3", TOKEN, URL, &nonce);
            // Two at each replica, so that they meet in one group as well.
            let sent: Vec<_> = endpoints
                .iter()
                .zip(["a", "b"])
                .flat_map(|(endpoint, call)| {
                    endpoint.send_all([callback(call), callback(&format!("{call}{call}"))])
                })
                .collect();
            let mut statuses = Vec::new();
            for answer in sent {
                statuses.push(answer.await.unwrap().status);
            }
            let refused = if policy == SignaturePolicy::Required { 3 } else { 0 };
            assert_eq!(statuses.iter().filter(|status| **status == 403).count(), refused, "{statuses:?}");
        }
        assert_eq!(database.count("select count(*) from vobiz.cdr_queue where certain").await, 10);
        let guesses = if policy == SignaturePolicy::Required { 0 } else { 30 };
        assert_eq!(
            database
                .count("select count(*) from vobiz.cdr_queue where not certain and not account_proven")
                .await,
            guesses
        );
        assert_eq!(database.count("select sum(uses)::bigint from vobiz.callback_nonce").await, 40);
        database.every_certain_call_is_somewhere().await;
    }
}

/// Vobiz repeats a callback that it had no answer to; whoever has captured one repeats it with other padding, a thousand times a second.
#[tokio::test]
async fn repeats_of_a_nonce_are_counted_and_few_and_little_of_them_is_kept() {
    for by_query in [false, true] {
        let database = Database::new().await;
        let endpoint = Setup::default().open(&database.pool);
        let repeat = |n: usize| {
            let padding = "x".repeat(50_000 + n);
            if by_query {
                captured("a").query(&format!("padding={padding}"))
            } else {
                let body = format!("Event=Hangup&CallUUID=a&padding={padding}");
                Callback::post(body).signed("v3", TOKEN, URL, NONCE).signed("v2", TOKEN, URL, NONCE)
            }
        };
        assert_eq!(endpoint.status(captured("a")).await, 200);
        for answer in endpoint.answers((0..30).map(repeat)).await {
            assert_eq!(answer.status, 200);
        }
        // After a restart as well.
        let endpoint = Setup::default().open(&database.pool);
        assert_eq!(endpoint.status(repeat(99)).await, 200);
        assert_eq!(
            database.count("select count(*) from vobiz.callback").await,
            4,
            "the first one, and three"
        );
        let most = "select max(length(body) + coalesce(length(query), 0))::bigint from vobiz.callback";
        assert!(database.count(most).await <= 4096 + 100);
        let said = "select count(*) from vobiz.callback
                    where note like '%a repeat: its nonce came before; the first 4096 of _____ bytes%are kept'";
        assert_eq!(database.count(said).await, 3);
        assert_eq!(
            database.text("select string_agg(uses::text, ' ') from vobiz.callback_nonce").await,
            "32 32"
        );
        assert_eq!(database.queue().await, [format!("a {ACCOUNT} certain proven")]);
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn of_a_body_at_most_16_kib_are_kept_whatever_proves_it() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let body = |call_id: &str, length: usize| {
        let start = format!("Event=Hangup&CallUUID={call_id}&x=");
        Callback::post(format!("{start}{}", "x".repeat(length - start.len())))
    };
    for (callback, length) in [
        (body("a", 16_384).by_v3(TOKEN), 16_384),
        (body("b", 16_385).by_v3(TOKEN), 16_385),
        (body("c", 16_384).by_secret(), 16_384),
        (body("d", 200_000).by_secret(), 200_000),
    ] {
        assert_eq!(endpoint.status(callback).await, 200);
        let kept = "select concat_ws(' ', length(body), note) from vobiz.callback order by id desc limit 1";
        let said = if length > 16_384 {
            format!(" the first 16384 of {length} bytes are kept")
        } else {
            String::new()
        };
        assert_eq!(database.text(kept).await, format!("16384{said}"));
    }
    assert_eq!(database.count("select count(*) from vobiz.cdr_queue where certain").await, 4);
}

/// A hang-up that came early, or was replayed while the call still went on, has made it wait up to a quarter of an hour.
#[tokio::test]
async fn a_further_proven_hangup_makes_a_call_that_waits_for_its_record_due_again_twice() {
    for by_secret in [false, true] {
        let database = Database::new().await;
        let endpoint = Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
        let wait = async || {
            let put_off = "update vobiz.cdr_queue set due_at = vobiz.now() + interval '15 minutes', lease_id = 7, failures = 9";
            database.run(put_off).await;
        };
        let state = async |call: &str| {
            let sql = format!(
                "select concat_ws(' ', due_at <= vobiz.now() + interval '4 s', lease_id = 7, failures, hurried) from vobiz.cdr_queue
                 where call_id = '{call}'"
            );
            sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&database.pool).await.unwrap()
        };
        database
            .run(
                "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, announced_at, due_at, failures, error_class,
                                              last_error, first_failed_at, dead_at)
                 select call, 'MA_TESTAB12', true, true, vobiz.now(), vobiz.now(), 9, class, 'x', vobiz.now(),
                        case when call = 'dead' then vobiz.now() end
                 from (values ('waits', 'not_yet'), ('away', 'unavailable'), ('dead', 'never_appeared')) as c (call, class)",
            )
            .await;
        let hangup = |call: &str| {
            let callback = Callback::hangup(call);
            if by_secret { callback.by_secret() } else { callback.by_v3(TOKEN) }
        };
        for expected in ["t f 1 1", "t f 1 2", "f t 9 2"] {
            wait().await;
            // What nobody proves, and what only comes again, hurries nothing.
            assert_eq!(endpoint.status(Callback::hangup("waits")).await, 200);
            for call in ["waits", "away", "dead"] {
                assert_eq!(endpoint.status(hangup(call)).await, 200);
            }
            assert_eq!(state("waits").await, expected, "by secret: {by_secret}");
            for call in ["away", "dead"] {
                assert_eq!(state(call).await, "f t 9 0");
            }
        }
    }
}

#[tokio::test]
async fn a_repeat_and_a_guess_hurry_nothing() {
    let database = Database::new().await;
    let endpoint = Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
    assert_eq!(endpoint.status(captured("a")).await, 200);
    database
        .run(
            "update vobiz.cdr_queue set due_at = vobiz.now() + interval '15 minutes', failures = 9, error_class = 'not_yet',
                    last_error = 'x', first_failed_at = vobiz.now(), first_not_yet_at = vobiz.now()",
        )
        .await;
    for callback in
        [captured("a"), Callback::hangup("a"), Callback::post("Event=DialHangup&DialBLegUUID=a").by_v3(TOKEN)]
    {
        assert_eq!(endpoint.status(callback).await, 200);
        assert_eq!(
            database.text("select concat_ws(' ', failures, hurried) from vobiz.cdr_queue").await,
            "9 0"
        );
    }
    // While a lease is out, a further hang-up is worth as much: what its holder finds out is from before.
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    assert_eq!(database.text("select concat_ws(' ', failures, hurried) from vobiz.cdr_queue").await, "1 1");
}
