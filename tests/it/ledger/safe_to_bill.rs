//! Up to where a bill may be written, and what holds it back.

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::ledger;
use vobiz_cdr::simulator::SimulatorOptions;

use super::ledger_world;
use super::{at, check, checker, hurry, safe_to, settled_day, states};
use crate::support::process::{program, run};
use crate::support::world::options;

#[tokio::test(flavor = "multi_thread")]
async fn an_owed_call_holds_the_bill_back_from_its_day_on() {
    let (world, began, _) = settled_day().await;
    let announced = began + TimeDelta::hours(30);
    world.owe("slow", true).await;
    world.owe("speculative", false).await;
    sqlx::query("update vobiz.cdr_queue set enqueued_at = $1, announced_at = $1")
        .bind(announced)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let (safe, held_by) = safe_to(&world).await;
    let local = (announced + TimeDelta::minutes(330)).format("%Y-%m-%d %H:%M Asia/Kolkata");
    assert_eq!(
        (safe, held_by),
        (began + TimeDelta::days(1), format!("1 call is owed, the first announced at {local}"))
    );
    // Announced half an hour after midnight, it may have begun four hours before.
    let announced = began + TimeDelta::minutes(24 * 60 + 30);
    sqlx::query("update vobiz.cdr_queue set announced_at = $1")
        .bind(announced)
        .execute(&world.database.pool)
        .await
        .unwrap();
    assert_eq!(safe_to(&world).await.0, began);
    world.database.run("delete from vobiz.cdr_queue").await;
    world.vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_its_settled_days_lack_closes_itself() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    at(&world, began, 30.0);
    world.owe("never-was", true).await;
    let announced = began + TimeDelta::hours(30);
    sqlx::query(
        "update vobiz.cdr_queue set enqueued_at = $1, announced_at = $1, error_class = 'never_appeared', failures = 40,
                last_error = 'not yet: 404', first_failed_at = $1, dead_at = $1 + interval '1 hour'",
    )
    .bind(announced)
    .execute(&world.database.pool)
    .await
    .unwrap();
    let day = (announced + TimeDelta::minutes(330)).date_naive();
    check(&world).await;
    // The day after its announcement is not over yet.
    assert_eq!(world.status("never-was").await, "never_appeared 40 dead");
    let (safe, held_by) = safe_to(&world).await;
    assert_eq!(
        (safe, held_by.as_str()),
        (began + TimeDelta::days(1), format!("1 dead letter of {day}").as_str())
    );
    assert_eq!(world.text("select sum(dead) from vobiz.ledger_day").await, "1");

    world.database.shift_clock("3 days").await;
    hurry(&world).await;
    check(&world).await;
    assert_eq!(world.status("never-was").await, "∅");
    let closed = world.database.text("select reason || ': ' || evidence from vobiz.closed_call").await;
    assert!(closed.starts_with("never_appeared: not yet: 404; the provider's settled days"), "{closed}");
    assert!(safe_to(&world).await.0 > began + TimeDelta::days(2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_holds_the_bill_until_a_person_closes_it() {
    let (world, began, _) = settled_day().await;
    let before = safe_to(&world).await.0;
    world.owe("never-was", true).await;
    let announced = began + TimeDelta::hours(30);
    sqlx::query(
        "update vobiz.cdr_queue set enqueued_at = $1, announced_at = $1, error_class = 'never_appeared', failures = 40,
                last_error = 'not yet: 404', first_failed_at = $1, dead_at = vobiz.now()",
    )
    .bind(announced)
    .execute(&world.database.pool)
    .await
    .unwrap();
    let (safe, held_by) = safe_to(&world).await;
    let day = (announced + TimeDelta::minutes(330)).date_naive();
    assert_eq!((safe, held_by), (began + TimeDelta::days(1), format!("1 dead letter of {day}")));
    let close = |arguments: &[&str]| {
        let mut command = program(arguments);
        run(command.env("DATABASE_URL", &world.database.url))
    };
    let refused = close(&["dead-letters", "close", "never-was", "--reason", " "]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert_eq!(safe_to(&world).await.0, safe);
    let reason = "Vobiz says it was a test call";
    let closed = close(&["dead-letters", "close", "never-was", "--reason", reason, "--by", "asha"]);
    assert_eq!(closed.status.code(), Some(0), "{}", closed.stderr);
    assert_eq!(safe_to(&world).await.0, before);
    let audit = "select concat_ws(' | ', action, call_id, reason, by like '%(asha)') from vobiz.audit";
    assert_eq!(world.database.texts(audit).await, [format!("dead_letter_closed | never-was | {reason} | t")]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_which_nobody_looked_is_not_safe_whatever_lies_after_it() {
    let (world, began, _) = settled_day().await;
    world.advance(TimeDelta::days(10)).await;
    // Nothing has swept for ten days; an operator asks for a single one.
    let day = (began + TimeDelta::days(9) + TimeDelta::minutes(330)).date_naive();
    let due = ledger::Due { day, cause: ledger::CheckCause::Manual };
    let origin = vobiz_cdr::db::cdr::Origin::Manual;
    let checked = checker(&world).check_day(&world.accounts[0], due, origin, &CancellationToken::new()).await;
    assert_eq!(checked.unwrap().state.as_str(), "settled");
    let (safe, held_by) = safe_to(&world).await;
    assert_eq!(safe, began + TimeDelta::days(2), "{held_by}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_counts_once_calls_that_began_in_it_must_have_ended() {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options() }).await;
    check(&world).await;
    assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
    // Two hours past the next midnight: settled, and yet a call may still run.
    world.advance(TimeDelta::hours(14)).await;
    check(&world).await;
    assert_eq!(states(&world).await[2], "settled 0");
    let (safe, held_by) = safe_to(&world).await;
    assert!(
        safe == began + TimeDelta::days(2) && held_by.contains("may be running still until"),
        "{held_by}"
    );
    world.advance(TimeDelta::hours(2)).await;
    assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(3));
    // Where the end decides, such a call is in the next day's list, however long that one stays unsettled.
    world.database.run("update vobiz.account set day_of = 'end_time'").await;
    assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
    world.advance(TimeDelta::days(10)).await;
    let (safe, held_by) = safe_to(&world).await;
    assert_eq!(safe, began + TimeDelta::days(2), "{held_by}");
    assert!(held_by.contains("may be listed in the day after it: day "), "{held_by}");
    world.end().await;
}
