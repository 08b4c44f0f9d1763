//! Settled days hold what Vobiz listed, and `verify` proves it whatever went past the triggers.

use vobiz_cdr::db::ledger::settled::{SettledDays, compare};

use super::settled_day;
use crate::support::database::Database;
use crate::support::process::{program, run};

/// Asserts that no settled day differs; how many there are, and their calls.
pub(crate) async fn settled_days(database: &Database) -> (i64, i64) {
    let SettledDays { days, calls, differences } =
        compare(&mut *database.connection().await, None, None, None).await.unwrap();
    assert_eq!(differences, [], "{days} days");
    (days, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_settled_day_past_the_triggers_is_found_although_its_sums_are_repaired() {
    for (damage, found) in [
        ("delete from vobiz.cdr where call_id = (select min(call_id) from vobiz.cdr)", "19 20"),
        (
            "update vobiz.cdr set total_cost = total_cost + 0.0001 where call_id = (select min(call_id) from vobiz.cdr)",
            "9.0001",
        ),
        ("update vobiz.cdr set currency = 'USD' where call_id = (select min(call_id) from vobiz.cdr)", "USD"),
        // Whole days away, into a day that is settled as well: the sums of both together are right.
        (
            "update vobiz.cdr set start_time = start_time - interval '3 days' where call_id = (select min(call_id) from vobiz.cdr)",
            "19 20",
        ),
    ] {
        let (world, _, _) = settled_day().await;
        assert_eq!(settled_days(&world.database).await, (2, 20));
        let verify = || run(program(&["verify"]).env("DATABASE_URL", &world.database.url));
        let right = verify();
        assert!(right.status.success(), "{}", right.stderr);
        let says = "the settled days hold what Vobiz listed of them: 20 calls in 2 days";
        assert!(right.stderr.contains(says), "{}", right.stderr);
        world
            .database
            .run(&format!("begin; set local session_replication_role = replica; {damage}; commit"))
            .await;
        let repaired = run(program(&["verify", "--repair"]).env("DATABASE_URL", &world.database.url));
        assert_eq!(repaired.status.code(), Some(1), "{damage}: {}", repaired.stderr);
        let wrong = verify();
        assert_eq!(wrong.status.code(), Some(1), "{damage}: {}", wrong.stderr);
        assert!(wrong.stderr.contains("the rollup equals the calls"), "{damage}: {}", wrong.stderr);
        assert!(wrong.stderr.contains("not what Vobiz listed"), "{damage}: {}", wrong.stderr);
        let line =
            wrong.stdout.split_whitespace().filter(|word| *word != "│" && *word != "┆").collect::<Vec<_>>();
        assert!(line.join(" ").contains(found), "{damage}: {}", wrong.stdout);
        world.end().await;
    }
}
