//! Postgres is away, hangs or is full: 503 in time, and nothing that was answered 200 is lost.

use std::time::Duration;

use sqlx::{Connection, PgPool};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use vobiz_cdr::db::base::partition;
use vobiz_cdr::db::{self, cdr, timed};
use vobiz_cdr::vobiz::SignaturePolicy;

use crate::support::calls::plain;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Answer, Callback, OpenEndpoint, Setup, TOKEN};
use crate::support::wait::{LIMIT, until, until_is};

/// Vobiz waits for three seconds, and the timers of the service end before. How long an answer takes is a matter of the benchmark
/// `refusal`; here it must not hang.
const IN_TIME: Duration = Duration::from_secs(30);

fn is_busy(answer: &Answer) -> bool {
    answer.status == 503 && answer.has_retry_after && answer.body.is_empty() && answer.took < IN_TIME
}

/// Callbacks that come at once, and others while those wait: all are told to come again, and in time.
async fn everybody_is_told_to_come_again(endpoint: &OpenEndpoint) {
    let early = endpoint.send_all((0..20).map(|n| Callback::hangup(&format!("early{n}")).by_v3(TOKEN)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let late = endpoint.send_all((0..20).map(|n| Callback::post(format!("Event=Ring&n={n}")).by_secret()));
    for answer in early.into_iter().chain(late) {
        let answer = answer.await.unwrap();
        assert!(is_busy(&answer), "{answer:?}");
    }
}

fn postgres_at(port: u16) -> PgPool {
    db::connect(&format!("postgres://nobody@127.0.0.1:{port}/nowhere"), "test", 2).unwrap()
}

#[tokio::test]
async fn a_postgres_that_is_away_or_never_answers_is_our_fault_not_the_callers() {
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away_port = away.local_addr().unwrap().port();
    drop(away);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let away = Setup::default().open(&postgres_at(away_port));
    let silent = Setup::default().open(&postgres_at(silent_port));
    tokio::join!(everybody_is_told_to_come_again(&away), everybody_is_told_to_come_again(&silent));
    // What we refuse, we refuse all the same.
    for endpoint in [away, silent] {
        assert_eq!(endpoint.status(Callback::hangup("forged").by_v3("forged")).await, 403);
    }
}

#[tokio::test]
async fn a_pool_that_was_closed_is_our_fault_not_the_callers() {
    let database = Database::new().await;
    let pool = db::connect(&database.url, "test", 2).unwrap();
    let endpoint = Setup::default().open(&pool);
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    pool.close().await;
    let answer = endpoint.answer(Callback::hangup("b").by_v3(TOKEN)).await;
    assert!(is_busy(&answer), "{answer:?}");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_month_without_a_partition_is_our_fault_not_the_callers() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    // Nor can one be made.
    database.run("drop function vobiz.make_partition").await;
    database.shift_clock("3 years").await;
    let answers = endpoint.answers((0..5).map(|n| Callback::hangup(&format!("c{n}")).by_v3(TOKEN))).await;
    assert!(answers.iter().all(is_busy), "{answers:?}");
    assert_eq!(database.queue().await, [""; 0], "what is not logged is not owed");
    database.shift_clock("0").await;
    assert_eq!(endpoint.status(Callback::hangup("c1").by_v3(TOKEN)).await, 200);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_missing_partition_is_made_at_once() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    for (clock, call) in [("3 years", "a"), ("7 years", "b")] {
        database.shift_clock(clock).await;
        assert_eq!(endpoint.status(Callback::hangup(call).by_v3(TOKEN)).await, 200, "{clock}");
        let missing = partition::missing(&mut *database.connection().await).await.unwrap();
        assert_eq!(missing, [""; 0]);
    }
    // A CDR needs one of its own.
    database
        .run(
            "do $$ declare month text; begin
               for month in select inhrelid::regclass::text from pg_inherits where inhparent = 'vobiz.cdr_revision'::regclass loop
                 execute 'drop table ' || month;
               end loop;
             end $$",
        )
        .await;
    let now = database.now().await;
    let cdr = plain("a", now);
    let stored = timed!(&database.pool, LIMIT, |connection| async {
        let mut transaction = connection.begin().await?;
        cdr::upsert(&mut transaction, &[&cdr]).await?;
        transaction.commit().await
    });
    stored.await.unwrap();
    assert_eq!(database.count("select count(*) from vobiz.cdr_revision").await, 1);
    database.every_certain_call_is_somewhere().await;
}

/// What a session may be left with: each costs nothing but a new connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_only_errs_is_replaced_and_costs_no_answer() {
    let database = Database::new().await;
    let pool = db::connect_service(&database.url, "receive", 1).unwrap();
    let endpoint = Setup::default().open(&pool);
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'vobiz-cdr receive'";
    for (n, spoil) in [
        "set default_transaction_read_only = on",
        "deallocate all",
        "set session characteristics as transaction read only",
        "begin; select 1/0",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(endpoint.status(Callback::hangup(&format!("before{n}")).by_v3(TOKEN)).await, 200);
        let spoilt: i32 = {
            let mut connection = pool.acquire().await.unwrap();
            let pid =
                sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
            let _ = sqlx::raw_sql(spoil).execute(&mut *connection).await;
            pid
        };
        let calls = (0..3).map(|more| Callback::hangup(&format!("after{n}.{more}")).by_v3(TOKEN));
        let answers: Vec<u16> = endpoint.answers(calls).await.iter().map(|answer| answer.status).collect();
        assert_eq!(answers, [200; 3], "{spoil}");
        until_is("the session is closed", 0, async || {
            database.count(&format!("select count(*) from pg_stat_activity where pid = {spoilt}")).await
        })
        .await;
        assert_eq!(database.count(sessions).await, 1, "{spoil}");
    }
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_kept_plan_that_no_longer_fits_its_table_is_made_anew() {
    let database = Database::new().await;
    let pool = db::connect_service(&database.url, "receive", 2).unwrap();
    database.run("create table vobiz.kept (a integer); insert into vobiz.kept values (1)").await;
    let read = || async {
        timed!(&pool, LIMIT, |connection| sqlx::query("select * from vobiz.kept").fetch_one(connection)).await
    };
    for change in
        ["alter table vobiz.kept alter column a type bigint", "alter table vobiz.kept add column b text"]
    {
        // Postgres keeps it on each of them.
        let (one, two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        for mut connection in [one, two] {
            sqlx::query("select * from vobiz.kept").fetch_one(&mut *connection).await.unwrap();
        }
        database.run(change).await;
        read().await.unwrap();
        read().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_postgres_ends_costs_one_answer_at_most() {
    let database = Database::new().await;
    let pool = db::connect(&database.url, "receive", 2).unwrap();
    let endpoint = Setup::default().open(&pool);
    assert_eq!(endpoint.status(Callback::hangup("a").by_v3(TOKEN)).await, 200);
    database
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name = 'vobiz-cdr receive'",
        )
        .await;
    let answers = [
        endpoint.status(Callback::hangup("b").by_v3(TOKEN)).await,
        endpoint.status(Callback::hangup("c").by_v3(TOKEN)).await,
    ];
    assert!(matches!(answers, [200 | 503, 200]), "{answers:?}");
    assert!(database.queue().await.contains(&format!("c {ACCOUNT} certain proven")));
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_full_group_commit_says_so_at_once_and_what_was_answered_200_is_there() {
    let database = Database::new().await;
    let endpoint = Setup::default().open(&database.pool);
    let big = |name: &str, n: usize| {
        let padding = "x".repeat(20 * 1024);
        Callback::post(format!("Event=Hangup&CallUUID={name}{n}&padding={padding}")).by_v3(TOKEN)
    };
    let mut taken = Vec::new();
    for n in 0..3 {
        assert_eq!(endpoint.status(big("before", n)).await, 200);
        taken.push(format!("before{n}"));
    }

    let lock = database.lock_log().await;
    // Of each 16 KiB are kept: 32 MiB hold 1,930 of these.
    let waiting = endpoint.send_all((0..2010).map(|n| big("during", n)));
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status == 503 && answer.has_retry_after));
    // The others wait until their commit has failed. (A refusal is a matter of one poll, however busy the machine is.)
    let at_once = answers.iter().filter(|answer| answer.took < Setup::default().commit_timeout).count();
    assert!(at_once >= 70, "{at_once} were told at once that there is no capacity");

    lock.rollback().await.unwrap();
    // Vobiz calls again. Before these come those that nobody waits for any more.
    for n in 0..17 {
        until_is("there is capacity again", 200, async || {
            let status = endpoint.status(big("during", n)).await;
            assert!(matches!(status, 200 | 503), "{n} was answered {status}");
            status
        })
        .await;
        taken.push(format!("during{n}"));
    }
    let logged: i64 = sqlx::query_scalar(
        "select count(distinct b.call_id) from vobiz.callback b join vobiz.cdr_queue q using (call_id)
         where b.call_id = any($1) and length(b.body) = 16384",
    )
    .bind(&taken)
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(logged, 20);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn callbacks_go_on_after_a_lock_and_each_200_is_a_row() {
    let database = Database::new().await;
    let endpoint =
        Setup { commit_timeout: Duration::from_millis(300), ..Setup::default() }.open(&database.pool);
    let mut taken = Vec::new();
    let mut busy = 0;
    for round in 0..3 {
        let lock = database.lock_log().await;
        let calls: Vec<String> = (0..40).map(|n| format!("r{round}n{n}")).collect();
        let waiting = endpoint.send_all(calls.iter().map(|call_id| Callback::hangup(call_id).by_v3(TOKEN)));
        until("one of them is told to come again", async || waiting.iter().any(JoinHandle::is_finished))
            .await;
        let more: Vec<String> = (0..40).map(|n| format!("r{round}m{n}")).collect();
        let later = endpoint.send_all(more.iter().map(|call_id| Callback::hangup(call_id).by_v3(TOKEN)));
        lock.rollback().await.unwrap();
        for (call_id, answer) in calls.into_iter().chain(more).zip(waiting.into_iter().chain(later)) {
            match answer.await.unwrap().status {
                200 => taken.push(call_id),
                503 => busy += 1,
                other => panic!("{call_id} was answered {other}"),
            }
        }
    }
    assert!(busy > 0, "nothing was answered 503");
    // At the latest when Vobiz calls again.
    until_is("it is taken", 200, async || endpoint.status(Callback::hangup("again").by_v3(TOKEN)).await)
        .await;
    taken.push("again".to_owned());
    let rows: i64 = sqlx::query_scalar(
        "select count(distinct call_id) from vobiz.callback join vobiz.cdr_queue using (call_id) where call_id = any($1)",
    )
    .bind(&taken)
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(usize::try_from(rows).unwrap(), taken.len());
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn an_outage_does_not_use_up_the_cap_on_speculative_calls() {
    let database = Database::new().await;
    let endpoint = Setup {
        policy: SignaturePolicy::Optional,
        max_speculative_per_minute: 10,
        commit_timeout: Duration::from_millis(200),
        ..Setup::default()
    }
    .open(&database.pool);
    let calls = || (0..10).map(|n| Callback::hangup(&format!("c{n}")));
    let lock = database.lock_log().await;
    for answer in endpoint.answers(calls()).await {
        assert!(is_busy(&answer), "{answer:?}");
    }
    lock.rollback().await.unwrap();
    // Vobiz calls again, and these ten are the first that the account comes to owe.
    until("all are taken", async || {
        endpoint.answers(calls()).await.iter().all(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(database.queue().await.len(), 10);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_group_taken_one_by_one_counts_repeats_once_too() {
    let database = Database::new().await;
    database.run("alter table vobiz.callback add constraint no_poison check (event <> 'Poison')").await;
    let endpoint =
        Setup { policy: SignaturePolicy::Optional, max_speculative_per_minute: 10, ..Setup::default() }
            .open(&database.pool);
    let lock = database.lock_log().await;
    let first = endpoint.send_all([Callback::post("Event=Ring")]);
    database.writer_waits().await;
    let group = [Callback::post("Event=Poison")].into_iter().chain((0..9).map(|_| Callback::hangup("same")));
    let rest = endpoint.send_all(group);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    for answer in first.into_iter().chain(rest) {
        answer.await.unwrap();
    }
    let others = (0..9).map(|n| Callback::hangup(&format!("c{n}")));
    assert!(endpoint.answers(others).await.iter().all(|answer| answer.status == 200));
    assert_eq!(database.queue().await.len(), 10);
    database.every_certain_call_is_somewhere().await;
}
