//! `recover`: after a restore, every day since is listed again.

use std::time::Duration;

use chrono::TimeDelta;

use crate::ledger::backfill::{command, history, list, start};

#[tokio::test(flavor = "multi_thread")]
async fn days_since_a_restore_are_listed_again_and_what_still_differs_is_an_exit_code() {
    let (world, first, last) = history(4, 5, Duration::ZERO).await;
    list(&world, &start(&world, first, last).await).await;
    // The dump was of the midnight before the last two days.
    let since = last.pred_opt().unwrap().and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(330);
    sqlx::query("delete from vobiz.cdr where day_at >= $1")
        .bind(since)
        .execute(&world.database.pool)
        .await
        .unwrap();
    assert_eq!(world.stored().await, 10);
    let since = since.to_rfc3339();
    let done = command(&world, &["recover", "--since", &since]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert_eq!(world.stored().await, 20);
    assert!(
        done.stdout.contains(&last.to_string()) && !done.stdout.contains(&first.to_string()),
        "{}",
        done.stdout
    );

    // A call that the list does not show came with the restore, or by a hand: it stays, and is said.
    world
        .database
        .run(
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time,
                                    total_cost, currency)
             select 'ours-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, 1, currency
             from (select * from vobiz.cdr order by start_time desc limit 1) one",
        )
        .await;
    let again = command(&world, &["recover", "--since", &since, "--json"]);
    assert_eq!(again.status.code(), Some(1), "{}", again.stderr);
    assert!(again.stdout.contains("1 call is missing at Vobiz: ours-alone"), "{}", again.stdout);
    world.end().await;
}
