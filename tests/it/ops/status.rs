//! What calls a person, in words and by an exit code, and what does not.

use vobiz_cdr::simulator::SimulatorOptions;

use super::{call, service, swept, vobiz};
use crate::db::bill::insert;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::process::{program, run};
use crate::support::wait::until_some;
use crate::support::world::{TOKEN, options};

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_shows_in_status_and_turns_no_callback_away() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    vobiz.set_token(ACCOUNT, "another-token");
    let running = service(&vobiz, &database.url).await;
    let callback = Callback::hangup("a-call").by_v3(TOKEN);
    assert_eq!(callback.send(running.public.unwrap()).await, 200);
    let act = running.the_only_act().await;
    let who = format!("pid {}, which never had a good answer: ", std::process::id());
    assert!(act.starts_with("account MA_TESTAB12 is paused: denied (") && act.contains(&who), "{act}");
    assert!(act.contains("denied: 401"), "the error is said: {act}");
    let series = "vobiz_cdr_account_paused{account=\"MA_TESTAB12\",reason=\"denied\"}";
    assert_eq!(running.metric(series).await, Some(1.0));
    assert_eq!(running.page("/readyz").await.0, 200);
    assert_eq!(running.page("/healthz").await.0, 200);
    assert_eq!(Callback::hangup("another").by_v3(TOKEN).send(running.public.unwrap()).await, 200);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_cannot_be_committed_call_a_person_although_postgres_answers() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    // As where a partition is missing or the disk of the log is full: everything else works.
    database.run("create function refuse() returns trigger language plpgsql as $$ begin raise sqlstate '53100'; end $$").await;
    database
        .run("create trigger refuse before insert on vobiz.callback for each row execute function refuse()")
        .await;
    let act = until_some("a person is called", async || {
        assert_eq!(call(&vobiz, &running, 1).await, 0);
        running.acts().await.into_iter().next().ok_or("all is well")
    });
    assert_eq!(act.await, "callbacks cannot be committed and are answered 503: 53100, SQLSTATE 53100");
    let (_, page) = running.page("/status").await;
    assert!(
        page.contains("there is no room on the disk of Postgres"),
        "the cure is that of its reason: {page}"
    );
    database.run("drop trigger refuse on vobiz.callback").await;
    assert_eq!(call(&vobiz, &running, 1).await, 1);
    running.all_is_well().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_throttled_all_the_time_calls_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    // Ten minutes of the last fifteen, in pauses of a minute each, as they come when every request is refused.
    database
        .run(
            "insert into vobiz.account_pause (account_id, started_at, until_at, reason)
             select 'MA_TESTAB12', now() - make_interval(mins => n), now() - make_interval(mins => n) + interval '59 seconds', 'throttled'
             from generate_series(1, 10) n",
        )
        .await;
    let act = running.the_only_act().await;
    assert!(act.starts_with("account MA_TESTAB12 was throttled (429) for 6"), "{act}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_partitions_dead_letters_and_strangers_calls_call_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(SimulatorOptions { clock_ahead: 95, ..options() }).await;
    let running = service(&vobiz, &database.url).await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
               values ('x', 'MA_GONE', false, true, now());
             insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, failures, error_class,
                                          last_error, first_failed_at, dead_at)
               values ('d', 'MA_TESTAB12', true, true, now(), 5, 'refused', '422', now(), now());
             do $$ begin execute (select format('alter table vobiz.callback detach partition vobiz.%I',
                                    'callback_' || to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM'))); end $$;",
        )
        .await;
    let acts = until_some("all is said", async || {
        let acts = running.acts().await;
        if acts.len() >= 4 { Ok(acts) } else { Err(acts) }
    })
    .await;
    let says = |word: &str| acts.iter().filter(|act| act.contains(word)).count() == 1;
    assert!(says("the clock of the Vobiz API is 9") && says("ahead of ours"), "{acts:?}");
    assert!(says("partitions are missing: callback_"), "{acts:?}");
    assert!(says("1 dead letter of account MA_TESTAB12: refused"), "{acts:?}");
    assert!(says("1 call is owed for account MA_GONE, which is not configured"), "{acts:?}");
    assert_eq!(acts.len(), 4, "{acts:?}");
    assert_eq!(running.metric("vobiz_cdr_dead_letters{class=\"refused\"}").await, Some(1.0));
    assert_eq!(running.metric("vobiz_cdr_queue_calls{state=\"dead\"}").await, Some(1.0));
    assert_eq!(running.page("/readyz").await.0, 200);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_that_does_not_equal_its_calls_calls_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    database.run(&insert("select 'c', 'MA_B', 't', timestamptz '2026-03-01 10:00Z', 30, 0.10")).await;
    database.run("update vobiz.rollup_delta set total_cost = 7; alter table vobiz.cdr disable trigger roll_up_update").await;
    let running = service(&vobiz, &database.url).await;
    let acts = until_some("a person is called", async || {
        let acts = running.acts().await;
        if acts.len() == 2 { Ok(acts) } else { Err(acts) }
    })
    .await;
    assert_eq!(
        acts[0],
        "triggers are disabled, so bill, versions and days do not follow the calls: roll_up_update on vobiz.cdr"
    );
    assert_eq!(acts[1], "1 sum of the bill does not equal the calls, first on 2026-03-01 of account MA_B");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bill_cannot_say_is_counted_and_calls_nobody() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    // Of two accounts; one lies too far back to be counted.
    database
        .run(&insert(
            "select 'c' || n, case when n < 4 then 'MA_TESTAB12' else 'SA_B' end, 't', vobiz.now() - n * interval '30 days', null::int, 0.10
             from generate_series(0, 4) n where n <> 2",
        ))
        .await;
    database
        .run(&insert("select 'free', 'SA_B', 't', vobiz.now() - interval '1 day', 30, null::numeric"))
        .await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    let page = until_some("it is counted", async || {
        let page: serde_json::Value = serde_json::from_str(&running.page("/status").await.1).unwrap();
        if page["unclear"]["owners"].as_array().is_some_and(|owners| owners.len() == 2) {
            Ok(page)
        } else {
            Err(page)
        }
    })
    .await;
    let owners = &page["unclear"]["owners"];
    assert_eq!(
        (owners[0]["account_id"].as_str(), owners[0]["calls"].as_i64(), owners[0]["unclear"].as_i64()),
        (Some("MA_TESTAB12"), Some(2), Some(2))
    );
    assert_eq!((&owners[1]["unclear"], &owners[1]["without_cost"]), (&0.into(), &1.into()));
    assert_eq!(page["status"], "ok");
    for (metric, calls) in [
        ("vobiz_cdr_unclear_calls{account=\"MA_TESTAB12\"}", 2.0),
        ("vobiz_cdr_unclear_calls{account=\"SA_B\"}", 0.0),
        ("vobiz_cdr_without_cost_calls{account=\"SA_B\"}", 1.0),
    ] {
        assert_eq!(running.metric(metric).await, Some(calls), "{metric}");
    }
    let address = running.ops.to_string();
    let words = tokio::task::spawn_blocking(move || run(&mut program(&["status", "--ops-listen", &address])))
        .await
        .unwrap();
    assert_eq!(words.status.code(), Some(0), "{}", words.stderr);
    assert!(
        words.stdout.contains("MA_TESTAB12 has 2 unclear calls (vobiz.unclear) and 0 without an amount (vobiz.cost_gap) since 20"),
        "{}",
        words.stdout
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_are_refused_call_a_person_who_hears_what_differs() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    running.all_is_well().await;
    for n in 0..6 {
        let forged = Callback::hangup(&format!("call-{n}")).by_v3("another-token");
        assert_eq!(forged.send(running.public.unwrap()).await, 403);
    }
    let act = running.the_only_act().await;
    assert_eq!(act, "6 of 6 callbacks were refused in the last 15 minutes (wrong_signature 6)");
    let (_, page) = running.page("/status").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let cure = page["act"][0]["do"].as_str().unwrap();
    assert!(cure.contains("the newest came to 127.0.0.1:") && cure.contains("/callbacks/vobiz: "), "{cure}");
    assert_eq!(page["callbacks_last_15_minutes"]["wrong_signature"], 6);
    assert_eq!(
        running.metric("vobiz_cdr_callbacks_refused_total{reason=\"wrong_signature\"}").await,
        Some(6.0)
    );
    // What comes right is the most of it again, and nobody has to act.
    for n in 0..6 {
        let right = Callback::hangup(&format!("call-{n}")).by_v3(TOKEN);
        assert_eq!(right.send(running.public.unwrap()).await, 200);
    }
    running.all_is_well().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_listed_and_never_announced_call_a_person() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    database
        .run(&insert(&format!(
            "select 'c' || n, '{ACCOUNT}', 't', clock_timestamp(), 30, 0.10 from generate_series(1, 12) n"
        )))
        .await;
    let act = running.the_only_act().await;
    assert!(act.starts_with("no callback comes: Vobiz lists calls (12 of"), "{act}");
    database.run("update vobiz.cdr set first_callback_at = now() where call_id = 'c7'").await;
    running.all_is_well().await;
    running.end().await;
}
