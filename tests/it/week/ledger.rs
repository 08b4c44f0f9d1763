//! The ledger after the week: every day settled and equal to Vobiz's own sums, the callbacks that were lost, what changed and
//! when, how often a day was listed, and each mutation caught.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::world::World;
use super::{KILL, POSTGRES};
use crate::support::wait::until_is;

/// An account and one of its days in UTC.
type Key = (String, NaiveDate);

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

impl World {
    /// Lets time go on without calls until every late cost is known and every day that has been over for an hour is settled.
    pub(super) async fn let_the_days_settle(&self) {
        // A cost settles a day after its call appeared. A sweep is deep enough to see all that changed since the last one.
        self.no_day_is_due().await;
        let mut next = Some(self.vobiz.now() + TimeDelta::hours(28));
        let mut rounds = 0;
        while let Some(due) = next {
            // An hour at least, so that the sweep is a deep one again.
            let instant = due.max(self.vobiz.now() + TimeDelta::hours(1));
            self.move_to(instant).await;
            self.swept_since(instant).await;
            self.no_day_is_due().await;
            next = sqlx::query_scalar(
                "select min(check_at) from vobiz.provider_day
                 where to_at <= vobiz.now() - interval '1 hour' and (state <> 'settled' or reopened_at is not null)",
            )
            .fetch_one(&self.database.pool)
            .await
            .unwrap();
            rounds += 1;
            assert!(rounds < 12, "the days do not come to rest: one is checked again at {next:?}");
        }
    }

    async fn no_day_is_due(&self) {
        until_is("every day that is due is checked", 0, async || {
            self.database.count("select count(*) from vobiz.provider_day where check_at <= vobiz.now()").await
        })
        .await;
    }

    /// The first instant up to which it need not be safe to bill yet: a day is, once it has been over for four hours.
    fn open_from(&self) -> DateTime<Utc> {
        midnight((self.vobiz.now() - TimeDelta::hours(4)).date_naive())
    }

    pub(super) async fn safe_to_bill(&self) -> BTreeMap<String, DateTime<Utc>> {
        let rows = sqlx::query_as("select account_id, safe_to from vobiz.safe_to_bill");
        rows.fetch_all(&self.database.pool).await.unwrap().into_iter().collect()
    }
}

/// Each day is settled, both its sides are what the simulator adds up, and it is safe to bill up to the last of them.
pub(super) async fn every_day_is_settled(world: &World) {
    type Sums = (i64, i64, Decimal);
    type Row = (String, NaiveDate, String, i64, i64, Decimal, i64, i64, Decimal);
    let (_, calls) = crate::ledger::settled::settled_days(&world.database).await;
    assert!(calls > 1000, "{calls}");
    // The ledger began with the week; the very first calls had begun on the day before.
    let mut truth: BTreeMap<Key, Sums> = BTreeMap::new();
    for call in world.vobiz.calls() {
        let day = call.started_at.date_naive();
        if day >= world.start.date_naive() {
            let sums = truth.entry((call.account_id, day)).or_default();
            *sums = (sums.0 + 1, sums.1 + i64::from(call.billsec), sums.2 + call.total_cost);
        }
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select account_id, day, state, coalesce(calls_here, 0), coalesce(billsec_here, 0), coalesce(total_here, 0),
                coalesce(calls_there, 0), coalesce(billsec_there, 0), coalesce(total_there, 0)
         from vobiz.ledger_day where to_at <= $1",
    )
    .bind(world.open_from())
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    let days = (world.open_from() - world.start).num_days();
    assert!(days >= 8, "{days} days are over");
    assert_eq!(rows.len(), 2 * usize::try_from(days).unwrap(), "one row per account and day: {rows:?}");
    for row in rows {
        let expected = truth.remove(&(row.0.clone(), row.1)).unwrap_or_default();
        assert_eq!(row.2, "settled", "{row:?}");
        assert_eq!((row.3, row.4, row.5), expected, "here, {} {}", row.0, row.1);
        assert_eq!((row.6, row.7, row.8), expected, "there, {} {}", row.0, row.1);
    }
    assert!(truth.is_empty(), "days that are not in the ledger: {truth:?}");

    let zone = "select day_of || ' ' || coalesce(day_offset::text, 'unknown') from vobiz.account";
    assert_eq!(world.database.texts(zone).await, ["start_time 00:00:00"; 2], "Vobiz cuts its days in UTC");
    let safe = world.safe_to_bill().await;
    assert!(safe.len() == 2 && safe.values().all(|to| *to == world.open_from()), "{safe:?}");
}

/// It went on day by day while the week went by, and back where costs changed late.
pub(super) async fn safe_to_bill_moved_on_and_back(world: &World) {
    type Move = (String, DateTime<Utc>, Option<DateTime<Utc>>, DateTime<Utc>);
    let moves: Vec<Move> =
        sqlx::query_as("select account_id, at, was, safe_to from vobiz.safe_to_bill_move order by id")
            .fetch_all(&world.database.pool)
            .await
            .unwrap();
    // What reopens a day: a version of one of its calls that became known; it was asked for before the clock was moved, perhaps.
    let reopens = "select exists (select from vobiz.cdr_revision r join vobiz.cdr c using (call_id)
                                  where c.account_id = $1 and c.day_at >= $2 and c.day_at < $2 + interval '1 day'
                                    and r.fetched_at > $3 - interval '105 minutes' and r.fetched_at <= $4)";
    let mut back = 0;
    for (account, stands) in world.safe_to_bill().await {
        let moves: Vec<_> = moves.iter().filter(|m| m.0 == account).map(|m| (m.1, m.2, m.3)).collect();
        let (_, was, began) = moves[0];
        assert!(was.is_none() && began - world.start < TimeDelta::seconds(10), "{moves:?}");
        assert_eq!(moves.last().unwrap().2, stands);
        for pair in moves.windows(2) {
            let ((noted, _, before), (at, was, to)) = (pair[0], pair[1]);
            assert_eq!(was, Some(before), "each move goes on from the one before: {moves:?}");
            // Back over the first day is back to where the ledger began, which was a moment after midnight.
            assert!(
                (to < before && to == began || to == midnight(to.date_naive()))
                    && to + TimeDelta::hours(4) <= at + LONGEST_STEP,
                "to the end of a day: {moves:?}"
            );
            if to < before {
                let reopened =
                    sqlx::query_scalar::<_, bool>(reopens).bind(&account).bind(to).bind(noted).bind(at);
                assert!(
                    reopened.fetch_one(&world.database.pool).await.unwrap(),
                    "{account} went back to {to} at {at}"
                );
                back += 1;
            }
        }
        // It goes on where all days before are settled at the same time, so now and then over two of them at once.
        let reached: BTreeSet<_> = moves.iter().map(|m| m.2).collect();
        assert!(reached.len() > 3, "not day by day: {moves:?}");
    }
    println!("safe to bill moved back {back} times");
    assert!(back > 0, "costs changed late in days that were settled");
}

/// The callbacks that were lost are counted, day by day, exactly.
pub(super) async fn lost_callbacks_are_counted(world: &World) {
    // Where Postgres or we went away while calls were announced, a callback may be committed that was never answered 200: whether
    // one was is not in what the simulator knows, but on the CDR.
    let noted: BTreeSet<String> =
        sqlx::query_scalar("select call_id from vobiz.cdr where first_callback_at is not null")
            .fetch_all(&world.database.pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
    let (mut lost, mut unanswered) = (BTreeMap::<Key, (i64, i64)>::new(), 0);
    for call in world.vobiz.calls() {
        let interrupted = [KILL, POSTGRES, super::RESTART].contains(&world.announced_in[&call.call_id]);
        let committed = interrupted && !call.acknowledged && noted.contains(&call.call_id);
        unanswered += u64::from(committed);
        let announced = call.acknowledged || committed;
        let counts = lost.entry((call.account_id, call.started_at.date_naive())).or_default();
        *counts = (counts.0 + 1, counts.1 + i64::from(!announced));
    }
    let summary = world.progress.summary();
    assert!(unanswered <= summary.unacknowledged, "{unanswered} of {summary:?}");
    let all: i64 = lost.values().map(|counts| counts.1).sum();
    assert_eq!(all, i64::try_from(summary.lost + summary.unacknowledged - unanswered).unwrap());
    let told: Vec<(String, NaiveDate, i64, i64, i64)> = sqlx::query_as(
        "select account_id, day, calls, only_listed, calls - announced from vobiz.callback_loss where calls > 0",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    for row in &told {
        assert_eq!(row.3, row.4);
    }
    let told: BTreeMap<Key, (i64, i64)> =
        told.into_iter().map(|row| ((row.0, row.1), (row.2, row.3))).collect();
    lost.retain(|key, _| key.1 >= world.start.date_naive());
    assert_eq!(told, lost);
}

/// For each cost that settled late there is its change, from what it was to what it is, and no other change.
pub(super) async fn every_change_is_shown(world: &World) {
    type Change = (String, String, Decimal, Decimal, Decimal);
    // A cost settles a day after its call appeared, so twice a day shows it before and after.
    let mut truth: HashMap<String, Vec<Decimal>> = HashMap::new();
    let (mut instant, now) = (world.start, world.vobiz.now());
    while instant < now {
        instant = now.min(instant + TimeDelta::hours(12));
        for call in world.vobiz.truth_at(instant) {
            let costs = truth.entry(call.call_id).or_default();
            if costs.last() != Some(&call.total_cost) {
                costs.push(call.total_cost);
            }
        }
    }
    truth.retain(|_, costs| costs.len() > 1);
    assert!(truth.values().all(|costs| costs.len() == 2));
    // A call whose callback was lost may have been found, after a restart, when its cost had settled already: we never knew another.
    let known_late: Vec<String> = sqlx::query_scalar(
        "select call_id from vobiz.cdr join vobiz.cdr_revision r using (call_id)
         where first_callback_at is null and cdr.updated_at > cdr.end_time + interval '23 hours'
         group by call_id having count(*) = 1 and min(r.fetched_at) >= max(r.updated_at)",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    assert!(known_late.len() < 10, "{known_late:?}");
    truth.retain(|call_id, _| !known_late.contains(call_id));
    let truth: BTreeSet<_> = truth.into_iter().map(|(id, costs)| (id, costs[0], costs[1])).collect();
    assert!((250..500).contains(&truth.len()), "{} costs settled late", truth.len());

    let changes: Vec<Change> = sqlx::query_as(
        r#"select call_id, field, case when field like '%cost' then was::numeric end,
                  case when field like '%cost' then "is"::numeric end, difference
           from vobiz.cdr_change"#,
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    assert_eq!(changes.len(), 2 * truth.len());
    assert!(changes.iter().all(|change| change.3 - change.2 == change.4), "{changes:?}");
    let of = |field: &'static str| changes.iter().filter(move |change| change.1 == field);
    let totals: BTreeSet<_> = of("total_cost").map(|change| (change.0.clone(), change.2, change.3)).collect();
    assert_eq!(totals, truth);
    let by = |field| of(field).map(|change| (change.0.clone(), change.4)).collect::<BTreeSet<_>>();
    assert_eq!(by("cost"), by("total_cost"), "streaming did not change");
}

/// At infinity every call is known as it stands.
pub(super) async fn the_last_state_known_is_the_present_one(world: &World) {
    let differ: Vec<String> = sqlx::query_scalar(
        "with known as (
           select call_id, account_id, day_at, call_direction, duration, billsec, cost, streaming_cost, total_cost, currency,
                  updated_at, revision
           from vobiz.cdr_as_of('infinity')
         ), present as (
           select call_id, account_id, day_at, call_direction, duration, billsec, cost, streaming_cost, total_cost, currency,
                  updated_at, revision
           from vobiz.cdr
         )
         (select known::text from known except select present::text from present)
         union all
         (select present::text from present except select known::text from known)",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    assert!(differ.is_empty(), "{differ:?}");
}

/// A check, as far as it explains the next one.
struct Listed {
    cause: String,
    state: String,
    began_at: DateTime<Utc>,
    checked_at: DateTime<Utc>,
    requests: i64,
    calls_there: i64,
}

impl Listed {
    /// When it was decided when to list the day again, at the earliest. A transaction over which the clock is moved on seems to
    /// have begun just before the new time, a full hour or the three quarters of one, and what it read before lies a step back.
    fn written_at(&self) -> DateTime<Utc> {
        let into_the_quarter = self.checked_at.timestamp().rem_euclid(900);
        self.checked_at - if into_the_quarter > 890 { LONGEST_STEP } else { TimeDelta::zero() }
    }
}

/// How far the clock is moved at once where days may be in hand: to a rest.
const LONGEST_STEP: TimeDelta = TimeDelta::minutes(105);

/// How long after the end of a day it is listed, in hours, until now.
const SCHEDULE: [i64; 4] = [1, 24, 72, 7 * 24];
/// Its schedule; then, while costs trickle in, after 10, 40, 160 and 640 minutes: four times between its first check and the
/// second, which may begin that series anew, and four times after it, since nothing changes from the 29th hour on.
const MOST_LISTED: usize = SCHEDULE.len() + 4 + 4;

/// Each listing of a day is one of its schedule, or one that a reopening or a check that did not settle it explains, and not
/// sooner than it should come. And it reads the pages that there are, once.
pub(super) async fn no_day_is_listed_too_often(world: &World) {
    type Row = (String, NaiveDate, String, String, DateTime<Utc>, DateTime<Utc>, i32, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "select k.account_id, k.day, k.cause, k.state, k.began_at, k.checked_at, k.requests,
                coalesce((select sum(t.calls_there) from vobiz.ledger_total t where t.check_id = k.id), 0)::bigint
         from vobiz.ledger_check k order by k.id",
    )
    .fetch_all(&world.database.pool)
    .await
    .unwrap();
    let mut days: BTreeMap<Key, Vec<Listed>> = BTreeMap::new();
    for (account, day, cause, state, began_at, checked_at, requests, calls_there) in rows {
        let requests = i64::from(requests);
        let listed = Listed { cause, state, began_at, checked_at, requests, calls_there };
        days.entry((account, day)).or_default().push(listed);
    }
    for ((account, day), checks) in &days {
        let end = midnight(*day) + TimeDelta::days(1);
        // One that did not settle the day is followed by another, and the series begins anew.
        let unsettled = checks.iter().filter(|check| check.state != "settled").count();
        assert!(checks.len() <= MOST_LISTED + 5 * unsettled, "{account} {day}: {} times", checks.len());
        let (mut before, mut reopenings, mut tries) = (None::<&Listed>, 0, 0);
        for check in checks {
            let Listed { cause, began_at, .. } = check;
            let since = before.map_or(DateTime::<Utc>::MIN_UTC, Listed::written_at);
            let scheduled = SCHEDULE.map(|hours| end + TimeDelta::hours(hours));
            let is_scheduled = scheduled.iter().any(|at| since < *at && at <= began_at);
            let wait = match cause.as_str() {
                "reopened" => TimeDelta::minutes(10 * 4_i64.pow(reopenings)).min(TimeDelta::hours(24)),
                "again" => TimeDelta::minutes(15 * 2_i64.pow(tries) / 2).min(TimeDelta::hours(6)),
                // Before the first list was read, the day was thought to end in India.
                _ if before.is_none() && *day == world.start.date_naive() => TimeDelta::zero(),
                _ => TimeDelta::MAX,
            };
            // A change counts from the beginning of its transaction, which may have waited for the check before: on a busy machine
            // the clocks go on by hours meanwhile. It cannot have waited since before that check began.
            let changed = before.map_or(since, |before| before.began_at);
            let is_explained = *began_at - changed >= wait - TimeDelta::minutes(1);
            assert!(is_scheduled || is_explained, "{account} {day}: {cause} at {began_at}, after {since}");
            // Of a list that changed while it was read, who knows.
            let pages = ((check.calls_there + 99) / 100).max(1);
            // The first one learns how Vobiz cuts its days, and reads those beside it before it believes it.
            let learns = *day == world.start.date_naive() && before.is_none() && check.requests > pages;
            assert!(
                check.state != "settled" || check.requests == pages || learns,
                "{account} {day} at {began_at}"
            );
            reopenings = match cause.as_str() {
                "reopened" => (reopenings + 1).min(4),
                "again" => reopenings,
                _ => 0,
            };
            // That a day cannot be settled before its end is no failure.
            let is_over = *began_at >= scheduled[0];
            tries = if check.state == "settled" || !is_over { 0 } else { tries + 1 };
            before = Some(check);
        }
    }
}
