//! What strangers cost: of what proves nothing little is read, and little is kept.

use std::time::Duration;

use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, PATH, SECRET, Setup, TOKEN, URL, fresh_nonce, hmac};

const UNPROVEN: [SignaturePolicy; 2] = [SignaturePolicy::Optional, SignaturePolicy::Off];

#[tokio::test]
async fn a_flood_of_what_proves_nothing_leaves_a_sample_and_the_proven_ones() {
    for policy in UNPROVEN {
        let database = Database::new().await;
        let setup = Setup { policy, max_speculative_per_minute: 50, ..Setup::default() };
        let endpoint = setup.open(&database.pool);
        let long = "x".repeat(12_000);
        let strange = (0..400).map(|n| match n % 4 {
            0 => Callback::get(&format!("Event=Hangup&CallUUID=q{n}&x={long}")),
            1 => Callback::post(format!("Event=Hangup&CallUUID=b{n}&x={long}")),
            2 => Callback::post(format!("Event=Ring&CallUUID=r{n}&x={long}")).query(&long),
            _ => Callback::hangup(&format!("w{n}")).at(format!("{PATH}/wrong")).query(&long),
        });
        assert!(endpoint.answers(strange).await.iter().all(|answer| answer.status == 200));
        // What proves itself is kept whole, is certain, and is owed beyond all caps.
        let real = (0..60).map(|n| Callback::hangup(&format!("real{n}")).by_v3(TOKEN).query(&long));
        assert!(endpoint.answers(real).await.iter().all(|answer| answer.status == 200));
        let certain = "select count(*) from vobiz.cdr_queue where certain and call_id like 'real%'";
        assert_eq!(database.count(certain).await, 60);
        let whole = "select count(*) from vobiz.callback where proof = 'v3' and length(query) = 12000";
        assert_eq!(database.count(whole).await, 60);
        assert_eq!(database.count("select count(*) from vobiz.cdr_queue where not certain").await, 50);
        let kept = "select sum(512 + length(body) + coalesce(octet_length(query), 0))::bigint from vobiz.callback where proof = 'none'";
        let kept = database.count(kept).await;
        assert!((300 * 1024..400 * 1024).contains(&kept), "{policy:?}: {kept} bytes of strangers are kept");
        let cut = "select count(*) from vobiz.callback
                   where proof = 'none' and (length(body) > 8192 or octet_length(query) > 8192 or note is null)";
        assert_eq!(database.count(cut).await, 0, "{policy:?}: query and body are cut alike, and it is said");
        let rows = database.count("select count(*) from vobiz.callback where proof = 'none'").await;
        let counted = format!("vobiz_cdr_callbacks_not_kept_total {}\n", 400 - rows);
        assert!(endpoint.metrics.text().contains(&counted), "{policy:?}: {counted}");
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn what_a_secret_alone_proves_fills_no_disk() {
    let long = "x".repeat(12_000);
    let by_path = |n: usize| Callback::hangup(&format!("s{n}")).at(format!("{PATH}/{SECRET}")).query(&long);
    let by_trunk = |n: usize| {
        let body = format!("Event=Hangup&CallUUID=s{n}&TrunkID=t&x={long}");
        let signature = hex::encode(hmac(SECRET, body.as_bytes()));
        Callback::post(body).header("X-Vobiz-Signature", &signature)
    };
    for way in [&by_path as &dyn Fn(usize) -> Callback, &by_trunk] {
        let database = Database::new().await;
        let setup =
            Setup { max_by_secret_per_minute: 100, max_speculative_per_minute: 50, ..Setup::default() };
        let endpoint = setup.open(&database.pool);
        assert!(endpoint.answers((0..400).map(way)).await.iter().all(|answer| answer.status == 200));
        assert_eq!(database.count("select count(*) from vobiz.cdr_queue where certain").await, 100);
        assert_eq!(database.count("select count(*) from vobiz.cdr_queue where not certain").await, 50);
        let rows = "select count(*) from vobiz.callback b join vobiz.cdr_queue q on q.call_id = b.call_id where q.certain";
        assert_eq!(database.count(rows).await, 100, "each certain call has its row");
        let kept = "select sum(length(body) + coalesce(octet_length(query), 0))::bigint from vobiz.callback";
        let kept = database.count(kept).await;
        assert!((300 * 1024..400 * 1024).contains(&kept), "{kept} bytes");
        let unsaid = "select count(*) from vobiz.callback
                      where length(body) + coalesce(octet_length(query), 0) < 12000 and note not like '%bytes%are kept%'";
        assert_eq!(database.count(unsaid).await, 0, "what is cut is said");
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn repeats_of_what_proves_nothing_are_not_written_down_for_ever() {
    for policy in UNPROVEN {
        let database = Database::new().await;
        let setup = Setup { policy, max_speculative_per_minute: 2, ..Setup::default() };
        let endpoint = setup.open(&database.pool);
        // A row that is touched again has another ctid or xmax; ten announcements for each new call are let through.
        let written = async || database.count("select xmax::text::bigint from vobiz.cdr_queue").await;
        for _ in 0..20 {
            assert_eq!(endpoint.status(Callback::hangup("a")).await, 200);
        }
        let before = written().await;
        for _ in 0..5 {
            assert_eq!(endpoint.status(Callback::hangup("a")).await, 200);
        }
        assert_eq!(written().await, before, "{policy:?}");
        assert_eq!(endpoint.status(Callback::hangup("b")).await, 200);
        assert_eq!(database.queue().await, [format!("a {ACCOUNT} speculative")], "the cap of this minute");
        // The proven leg has a cap of its own.
        let leg = Callback::post("Event=DialHangup&CallUUID=a&DialALegUUID=a&DialBLegUUID=leg").by_v3(TOKEN);
        assert_eq!(endpoint.status(leg).await, 200);
        assert_eq!(database.queue().await[1], format!("leg {ACCOUNT} speculative proven"));
        database.every_certain_call_is_somewhere().await;
    }
}

#[tokio::test]
async fn a_refused_callback_is_kept_with_the_beginnings_of_its_query_and_its_body() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let long = "x".repeat(10_000);
    for callback in [
        Callback::hangup("a").query(&long),
        Callback::post(format!("Event=Hangup&CallUUID=b&x={long}")).query(&long).by_v3("forged"),
        Callback::post(format!("Event=Hangup&CallUUID=c&x={long}"))
            .header("X-Vobiz-Signature", &"0".repeat(64)),
        // Signed with a nonce of another call.
        Callback::post(format!("Event=Hangup&CallUUID=d&x={long}"))
            .query(&long)
            .signed("v3", TOKEN, URL, "7"),
    ] {
        if database.queue().await.is_empty() {
            assert_eq!(endpoint.status(Callback::hangup("first").signed("v3", TOKEN, URL, "7")).await, 200);
        }
        assert_eq!(endpoint.status(callback).await, 403);
    }
    let kept = "select count(*) from vobiz.callback
                where outcome = 'refused' and coalesce(octet_length(query), 0) <= 4096 and length(body) <= 4096";
    database.comes_to(4, kept).await;
    let calls =
        "select string_agg(call_id, '' order by call_id) from vobiz.callback where outcome = 'refused'";
    assert_eq!(database.text(calls).await, "abcd");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn who_keeps_a_body_back_holds_no_one_up() {
    let database = Database::new().await;
    let endpoint = Setup { policy: SignaturePolicy::Optional, ..Setup::default() }.open(&database.pool);
    let port = crate::support::port::Port::open(endpoint).await;
    // Strangers who send most of a long body: more of them than the budget has room for.
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let mut stream = port.connect().await;
        let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n");
        let most = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
        most.unwrap();
        let body = "x".repeat(250_000);
        let _ = tokio::time::timeout(
            Duration::from_millis(200),
            tokio::io::AsyncWriteExt::write_all(&mut stream, body.as_bytes()),
        )
        .await;
        strangers.push(stream);
    }
    for n in 0..5 {
        let long = format!("Event=Hangup&CallUUID=l{n}&x={}", "x".repeat(200_000));
        let signed = Callback::post(long).signed("v3", TOKEN, URL, &fresh_nonce());
        assert_eq!(signed.send(port.address).await, 200);
        assert_eq!(Callback::hangup(&format!("s{n}")).by_v3(TOKEN).send(port.address).await, 200);
        assert_eq!(
            Callback::hangup(&format!("u{n}")).send(port.address).await,
            200,
            "a short one needs none"
        );
    }
    drop(strangers);
    assert_eq!(database.queue().await.len(), 15);
    database.every_certain_call_is_somewhere().await;
}
