//! The grouped commit: few transactions, and in each of them nobody pays for another's fault.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;
use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, Setup, TOKEN, sample};
use crate::support::wait::until_is;

#[tokio::test]
async fn many_callbacks_share_few_commits() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let callbacks = (0..500).map(|n| Callback::hangup(&format!("c{n:03}")).by_v3(TOKEN));
    assert!(endpoint.answers(callbacks).await.iter().all(|answer| answer.status == 200));
    // The clock stands still within a transaction.
    let commits = database.count("select count(distinct received_at) from vobiz.callback").await;
    assert!(commits <= 50, "500 callbacks took {commits} commits");
    let whole = "select count(*) from vobiz.callback b join vobiz.cdr_queue q using (call_id)
                 where b.received_at = q.announced_at and q.certain";
    assert_eq!(database.count(whole).await, 500);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn what_gathers_while_one_commit_runs_is_the_next_commit() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let lock = database.lock_log().await;
    let first = endpoint.send_all([Callback::hangup("first").by_v3(TOKEN)]);
    database.writer_waits().await;
    // Handed over one after the other, so all of them wait for the group commit when the lock goes.
    let rest = endpoint.send_all((0..200).map(|n| Callback::hangup(&format!("c{n:03}")).by_v3(TOKEN)));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    for answer in first.into_iter().chain(rest) {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(database.count("select count(distinct received_at) from vobiz.callback").await, 2);
    assert_eq!(database.queue().await.len(), 201);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn long_bodies_make_small_groups() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let lock = database.lock_log().await;
    let callbacks = (0..60).map(|n| {
        let body = format!("Event=Hangup&CallUUID=c{n}&padding={}", "x".repeat(200 * 1024));
        Callback::post(body).by_secret()
    });
    let waiting = endpoint.send_all(callbacks);
    database.writer_waits().await;
    lock.rollback().await.unwrap();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let longest = "select max(bytes)::bigint from
                     (select sum(length(body)) as bytes from vobiz.callback group by received_at) as commits";
    let longest = database.count(longest).await;
    assert!(longest <= (4 * 1024 + 256) * 1024, "{longest} bytes in one commit");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_callback_that_postgres_refuses_costs_the_others_nothing() {
    let database = Database::new().await;
    database.run("alter table vobiz.callback add constraint no_poison check (event <> 'Poison')").await;
    let endpoint = Setup::default().open(&database.pool);
    let lock = database.lock_log().await;
    let first = endpoint.send_all([Callback::hangup("first").by_v3(TOKEN)]);
    database.writer_waits().await;
    let callbacks = (0..30).map(|n| match n {
        15 => Callback::post("Event=Poison&CallUUID=poison").by_v3(TOKEN),
        _ => Callback::hangup(&format!("c{n:02}")).by_v3(TOKEN),
    });
    let rest = endpoint.send_all(callbacks);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    for answer in first {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    for (n, answer) in rest.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        let expected = if n == 15 { (503, true) } else { (200, false) };
        assert_eq!((answer.status, answer.has_retry_after), expected, "{n}");
    }
    assert_eq!(database.queue().await.len(), 30);
    assert_eq!(database.count("select count(*) from vobiz.callback").await, 30);
    assert_eq!(database.count("select count(distinct received_at) from vobiz.callback").await, 30);
    // The endpoint goes on.
    assert_eq!(endpoint.status(Callback::hangup("after").by_v3(TOKEN)).await, 200);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_call_that_the_queue_refuses_is_not_logged_as_owed() {
    let database = Database::new().await;
    database.run("alter table vobiz.cdr_queue add constraint no_poison check (call_id <> 'poison')").await;
    let endpoint = Setup::default().open(&database.pool);
    let callbacks = ["a", "poison", "b"].map(|call_id| Callback::hangup(call_id).by_v3(TOKEN));
    let statuses: Vec<u16> = endpoint.answers(callbacks).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 503, 200]);
    assert_eq!(
        database.log().await,
        [format!("Hangup a {ACCOUNT} v3 owed"), format!("Hangup b {ACCOUNT} v3 owed")]
    );
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn replicas_take_the_same_calls_at_once() {
    let database = Database::new().await;
    let open = || Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
    let endpoints = [open(), open(), open()];
    let mut waiting = Vec::new();
    for (turn, endpoint) in endpoints.iter().enumerate() {
        let calls = (0..200).map(|n| (n * 7 + turn * 61) % 100);
        waiting.extend(endpoint.send_all(calls.map(|call| {
            let callback = Callback::hangup(&format!("c{call:02}"));
            if turn == 1 { callback.by_v3(TOKEN) } else { callback }
        })));
    }
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let expected: Vec<String> = (0..100).map(|call| format!("c{call:02} {ACCOUNT} certain proven")).collect();
    assert_eq!(database.queue().await, expected);
    assert_eq!(database.count("select count(*) from vobiz.callback").await, 600);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn any_bytes_are_taken_and_kept_as_they_are() {
    let database = Database::new().await;
    let endpoint =
        Setup { policy: SignaturePolicy::Off, max_speculative_per_minute: 1_000_000, ..Setup::default() }
            .open(&database.pool);
    let files = [
        "hangup_outbound.form",
        "trunk_hangup.json",
        "campaign_contact_answered.json",
        "dial_hangup_answered.form",
    ];
    let damaged = (0..files.len(), any::<prop::sample::Index>(), any::<u8>(), 0usize..800).prop_map(
        move |(file, at, byte, cut)| {
            let mut body = sample(files[file]);
            let at = at.index(body.len());
            body[at] = byte;
            body.truncate(cut);
            body
        },
    );
    let escaped = prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
        let escape = |byte: &u8| format!("%{byte:02x}");
        let text: String = bytes.iter().map(escape).collect();
        format!(
            "Event={text}&CallUUID=a{text}&ParentAuthID={text}&SIPCallID={text}&TrunkID=x&Event=Hangup&CallUUID=b"
        )
        .into_bytes()
    });
    let json = "\\PC{0,20}".prop_map(|text| {
        let value = serde_json::Value::String(text);
        format!(
            r#"{{"Event":"Hangup","CallUUID":"c","TrunkID":{value},"SIPCallID":"\u0000\ud800x","auth_id":{value}}}"#
        )
        .into_bytes()
    });
    let body = prop_oneof![prop::collection::vec(any::<u8>(), 0..300), damaged, escaped, json];
    let query = prop::option::of("[!$-;=?-~]{0,60}");
    let mut runner = TestRunner::deterministic();
    let mut callbacks = Vec::new();
    for _ in 0..400 {
        let (body, query) = (&body, &query).new_tree(&mut runner).unwrap().current();
        let callback = Callback::post(body).header("X-Vobiz-Signature", "é");
        callbacks.push(if let Some(query) = query { callback.query(&query) } else { callback });
    }
    let sent: BTreeSet<Vec<u8>> = callbacks.iter().map(|callback| callback.body().to_vec()).collect();
    for (callback, answer) in callbacks.iter().zip(endpoint.answers(callbacks.clone()).await) {
        assert_eq!(answer.status, 200, "{callback:?}");
    }
    assert_eq!(database.count("select count(*) from vobiz.callback").await, 400);
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("select distinct body from vobiz.callback")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), sent);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn any_bytes_are_answered_where_proof_is_required() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let bytes = (prop::collection::vec(any::<u8>(), 0..200), "[ -~]{0,80}", "[a-z%0-9/._-]{0,30}");
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        let (body, value, path) = bytes.new_tree(&mut runner).unwrap().current();
        let mut callback = Callback::post(body).at(format!("/callbacks/vobiz/{path}"));
        for name in ["", "-V2", "-V3", "-MA-V2", "-MA-V3", "-V2-Nonce", "-V3-Nonce"] {
            callback = callback.header(&format!("X-Vobiz-Signature{name}"), &value);
        }
        let status = endpoint.status(callback.clone()).await;
        assert!(matches!(status, 403 | 404), "{status} {callback:?}");
    }
    // What Postgres would not take must not end the writer.
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_postgres_that_hangs_amid_the_singles_does_not_cost_each_of_them_a_timeout() {
    let database = Database::new().await;
    database
        .run(
            "create sequence public.hung;
             create function vobiz.condition() returns trigger language plpgsql as $$ begin
               if new.event = 'Poison' then raise data_exception; end if;
               if new.event = 'Hang' then perform nextval('public.hung'), pg_sleep(20); end if;
               return new;
             end $$;
             create trigger condition before insert on vobiz.callback for each row execute function vobiz.condition()",
        )
        .await;
    let endpoint = Setup { commit_timeout: Duration::from_secs(2), ..Setup::default() }.open(&database.pool);
    let lock = database.lock_log().await;
    let first = endpoint.send_all([Callback::post("Event=Ring").by_secret()]);
    database.writer_waits().await;
    let callbacks = (0..30).map(|n| match n {
        0 => Callback::post("Event=Poison").by_secret(),
        _ => Callback::post("Event=Hang").by_secret(),
    });
    let rest = endpoint.send_all(callbacks);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    for answer in first.into_iter().chain(rest) {
        answer.await.unwrap();
    }
    // The first of them took its timeout, and the others were not tried.
    let tried = database.text("select concat_ws(' ', is_called, last_value) from public.hung").await;
    assert_eq!(tried, "t 1", "so many of 29 were tried");
    let after = async || endpoint.status(Callback::hangup("after").by_secret()).await;
    until_is("the endpoint goes on", 200, after).await;
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_session_that_is_not_the_one_that_was_prepared_commits_safely_and_is_said() {
    let database = Database::new().await;
    // As a pooler gives sessions that it opened by itself.
    for rules in ["off", "local"] {
        let pool = PgPoolOptions::new().after_connect(move |connection, _| {
            Box::pin(async move {
                let set = format!("set synchronous_commit = {rules}");
                sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await.map(|_| ())
            })
        });
        let endpoint = Setup::default().open(&pool.connect(&database.url).await.unwrap());
        assert_eq!(endpoint.status(Callback::hangup(rules).by_v3(TOKEN)).await, 200);
        let lasting = endpoint.metrics.lasting_conditions();
        assert_eq!(lasting.len(), 1, "{lasting:?}");
        assert!(lasting[0].what.starts_with("sessions of Postgres change under us"), "{lasting:?}");
        assert!(lasting[0].error.starts_with(&format!("synchronous_commit = {rules} ruled")), "{lasting:?}");
        assert!(lasting[0].cure.contains("pool_mode = session"), "{lasting:?}");
    }
    let endpoint = Setup::default().open(&database.pool);
    assert_eq!(endpoint.status(Callback::hangup("ours").by_v3(TOKEN)).await, 200);
    assert_eq!(endpoint.metrics.lasting_conditions(), []);
}
