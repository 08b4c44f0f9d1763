//! The check of one provider day: read its list, store what is new in it, compare, and append the outcome to the ledger.
//!
//! It promises: a day is called settled only when the list's own totals equal its rows, each row equals ours, and each of ours
//! is listed; and no change of a call of the day falls between the comparison and the word. A check that finds calls that we
//! lacked stores them first, and says so.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};
use tracing::{debug, info, warn};

use super::evaluate::{CheckSnapshot, evaluate};
use super::zone;
use crate::account::{Account, Priority};
use crate::db::Fault;
use crate::db::cdr::Origin;
use crate::db::ledger::bound::{self, Known};
use crate::db::ledger::compare::{self, DaySpan};
use crate::db::ledger::record::{self, Check, DayState};
use crate::db::ledger::{self, Begun, CheckCause, Due, Writers, listed};
use crate::db::timed;
use crate::list::{DB_TIMEOUT, Found, ListError, ListReader, MOST_PAGES, PER_PAGE, close, in_time, within};
use crate::vobiz::{Cdr, ListQuery, Summary};

/// Comparing the calls of a large day takes a second or two.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(120);
/// Whoever stores calls for us gives up sooner than that: so an older transaction is none of ours.
const WRITERS_END_WITHIN: Duration = Duration::from_secs(30);

/// While a backlog is resolved by the list, a check would read the same pages beside it, at half the rate for both. No longer
/// than this: somewhere there may always be one.
const WAITS_FOR_A_BACKLOG: Duration = Duration::from_secs(2 * 3600);

/// What came of the check of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The day.
    pub day: NaiveDate,
    /// Its number in the ledger.
    pub id: i64,
    /// How the day stands.
    pub state: DayState,
    /// The day has been over for an hour: sooner it cannot be settled.
    pub over: bool,
    /// Why it is not settled.
    pub reason: Option<String>,
    /// Pages read.
    pub requests: u32,
    /// Calls listed.
    pub calls: u64,
    /// Calls stored for the first time.
    pub new: usize,
    /// Of these, calls that nothing had owed.
    pub recovered: usize,
    /// Calls with a new version.
    pub revised: usize,
}

/// The list of a day as it was read.
#[derive(Debug, Default)]
struct Listed {
    requests: u32,
    found: Found,
    unreadable: Vec<String>,
    first: Option<Summary>,
    last: Option<Summary>,
    total: Option<i64>,
    /// It shows calls of accounts that no list of this one had shown.
    new_owners: bool,
}

/// All that was read for a check.
#[derive(Debug, Clone, Copy)]
struct CheckInput<'a> {
    /// The list of the day.
    list: &'a Listed,
    /// Pages of the days beside it.
    beside: u32,
    /// Rows of the list that lie in no zone's version of the day.
    outside: i64,
}

impl super::Ledger {
    /// Checks the day of an account that has been due for longest, if one is due, the account is not paused, and nobody else is
    /// at it.
    pub async fn check_if_due(
        &self,
        account: &Account,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<Option<Checked>, ListError> {
        let heartbeat = self.heartbeat(account);
        self.check_with(account, &heartbeat, stop).await
    }

    pub(super) async fn check_with(
        &self,
        account: &Account,
        heartbeat: &crate::watch::heartbeat::Heartbeat,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<Option<Checked>, ListError> {
        let due = async |at_least| {
            timed!(&self.pool, DB_TIMEOUT, |connection| ledger::due(connection, account.id(), at_least)).await
        };
        if due(Duration::ZERO).await?.is_none() || account.is_paused().await? {
            return Ok(None);
        }
        let reader = self.reader("settle", (Priority::Settle, Origin::Sweep), account, heartbeat, stop);
        let wait = if reader.is_behind().await? { WAITS_FOR_A_BACKLOG } else { Duration::ZERO };
        let Some(due) = due(wait).await? else { return Ok(None) };
        let checked = check_alone(reader, due).await;
        if !matches!(checked, Ok(_) | Err(ListError::Stopped | ListError::Paused)) {
            // Other days may fare better.
            let why = checked.as_ref().err().map(ListError::brief).unwrap_or_default();
            let put_off = timed!(&self.pool, DB_TIMEOUT, |connection| record::put_off(
                connection,
                account.id(),
                due.day,
                Duration::from_secs(15 * 60),
                &why
            ));
            put_off.await?;
        }
        checked
    }

    /// Checks a day because somebody asks for it; waits until nobody else is at a day of the account. `origin` is how calls came
    /// to be known that nothing had announced.
    pub async fn check_day(
        &self,
        account: &Account,
        due: Due,
        origin: Origin,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<Checked, ListError> {
        loop {
            let checked = self.check_unless(account, due, None, origin, stop).await?;
            if let Some(checked) = checked {
                return Ok(checked);
            }
        }
    }

    /// The same; none if somebody else has settled the day since an instant.
    pub(super) async fn check_unless(
        &self,
        account: &Account,
        due: Due,
        settled_since: Option<DateTime<Utc>>,
        origin: Origin,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<Option<Checked>, ListError> {
        let (id, day) = (account.id(), due.day);
        let heartbeat = self.heartbeat(account);
        let reader = self.reader("backfill", (Priority::Backfill, origin), account, &heartbeat, stop);
        timed!(&self.pool, DB_TIMEOUT, |connection| ledger::ensure(connection, id, day, day)).await?;
        loop {
            if let Some(since) = settled_since
                && timed!(&self.pool, DB_TIMEOUT, |connection| ledger::is_settled_since(
                    connection, id, day, since
                ))
                .await?
            {
                return Ok(None);
            }
            if let Some(checked) = check_alone(reader, due).await? {
                return Ok(Some(checked));
            }
            reader.sleep(Duration::from_millis(500)).await?;
        }
    }
}

/// Checks a day, unless somebody else is at a day of the account.
async fn check_alone(reader: ListReader<'_>, due: Due) -> Result<Option<Checked>, ListError> {
    // The lock lives on a connection of its own, outside the pool, for as long as the check takes. All that the check notes and
    // compares goes through this connection, too: if it is lost, the lock is, and so is the check.
    let mut holder = reader.pool.acquire().await?.detach();
    let result = match in_time(ledger::try_lock(&mut holder, reader.account.id())).await {
        Ok(true) => check(reader, due, &mut holder).await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    close(holder).await;
    result
}

async fn check(reader: ListReader<'_>, due: Due, holder: &mut PgConnection) -> Result<Checked, ListError> {
    let account = reader.account.id();
    if !reader.account.ensure_access().await {
        return Err(ListError::Paused);
    }
    let begun = in_time(ledger::begin(holder, account, due.day)).await?;
    wait_for(&begun.writers, reader, holder).await?;
    let list = read_list(reader, due.day, holder).await?;
    let (known, outside) = learn(reader, due.day, holder).await?;
    let (mut beside, mut new_owners) = (0, list.new_owners);
    // Calls of ours that the list lacks: it may have put them into the day before or after.
    if unlisted(reader, due.day, &known, holder).await? > 0 {
        for neighbour in [due.day.pred_opt(), due.day.succ_opt()].into_iter().flatten() {
            let list = read_list(reader, neighbour, holder).await?;
            beside += list.requests;
            new_owners |= list.new_owners;
            learn(reader, neighbour, holder).await?;
        }
    }
    let announced = record::keep_announcements(holder, account, due.day);
    within(COMPARE_TIMEOUT, announced).await?;
    if new_owners {
        // Whoever has just changed a call of theirs may not have known that this list shows it.
        let writers = in_time(ledger::writers(holder)).await?;
        wait_for(&writers, reader, holder).await?;
    }
    let mut tries = 0;
    let checked = loop {
        let read = CheckInput { list: &list, beside, outside };
        tries += 1;
        match within(COMPARE_TIMEOUT, settle(holder, reader, due, &begun, read)).await {
            Err(ListError::Db(error)) if error.fault() == Fault::Retry && tries < 5 => {}
            result => break result?,
        }
    };
    in_time(listed::clear(holder, account)).await?;
    for call_id in within(COMPARE_TIMEOUT, record::close_never_appeared(holder, account)).await? {
        info!(call_id, "dead letter closed: the settled days around it lack the call");
    }
    say(reader.account, due.cause, &checked);
    Ok(checked)
}

/// Reads the list of a day: stores its rows, and notes them for the comparison.
async fn read_list(
    reader: ListReader<'_>,
    day: NaiveDate,
    holder: &mut PgConnection,
) -> Result<Listed, ListError> {
    let account = reader.account.id();
    let mut list = Listed::default();
    let mut before = Vec::new();
    for page in 1..=MOST_PAGES {
        let query = ListQuery { page, per_page: PER_PAGE, days: Some((day, day)), ..ListQuery::default() };
        let read = reader.read(&query, None).await?;
        if !read.call_ids.is_empty() && read.call_ids == before {
            return Err(ListError::Odd("the same page came twice"));
        }
        let rows: Vec<&Cdr> = read.rows.iter().collect();
        list.new_owners |= in_time(listed::note(holder, account, day, &rows)).await?;
        list.requests += 1;
        list.found.add(read.found);
        list.unreadable.extend(read.unreadable);
        list.first = list.first.or_else(|| read.summary.clone());
        (list.last, list.total) = (read.summary, read.total);
        if read.is_last {
            return Ok(list);
        }
        before = read.call_ids;
    }
    Err(ListError::Endless)
}

/// Learns from the list of a day how Vobiz cuts its days. Also returns how many of its rows lie in no zone's version of the day.
async fn learn(
    reader: ListReader<'_>,
    day: NaiveDate,
    holder: &mut PgConnection,
) -> Result<(Known, i64), ListError> {
    let account = reader.account.id();
    let (known, learnt, outside) = within(COMPARE_TIMEOUT, async {
        let known = bound::known(&mut *holder, account, day).await?;
        let extremes = listed::extremes(&mut *holder, account, day).await?;
        let learnt = zone::learn(&known, day, &extremes);
        if learnt != known {
            bound::learn(&mut *holder, account, &learnt).await?;
        }
        Ok((known, learnt, extremes.outside))
    })
    .await?;
    if (&known.day_of, known.offset) != (&learnt.day_of, learnt.offset) {
        let zone = learnt.offset.map_or_else(|| "the billing zone".into(), east);
        info!(%account, by = learnt.day_of, zone, "the lists say how Vobiz cuts its days");
    }
    Ok((learnt, outside))
}

/// `UTC+05:30`.
fn east(offset: i64) -> String {
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

async fn span<'a>(
    connection: &mut PgConnection,
    reader: ListReader<'a>,
    day: NaiveDate,
    day_of: &'a str,
) -> Result<DaySpan<'a>, sqlx::Error> {
    let account = reader.account.id();
    let (from, to) = bound::span(connection, account, day).await?;
    Ok(DaySpan { account, day, day_of, from, to })
}

async fn unlisted(
    reader: ListReader<'_>,
    day: NaiveDate,
    known: &Known,
    holder: &mut PgConnection,
) -> Result<i64, ListError> {
    within(COMPARE_TIMEOUT, async {
        let span = span(&mut *holder, reader, day, &known.day_of).await?;
        compare::unlisted(holder, &span).await
    })
    .await
}

/// Waits until whoever may not have known of the check has committed or given up. Who began later says on the day's row what
/// they change. Our own writers end in time; a transaction of somebody else that writes for longer puts the check off.
async fn wait_for(
    writers: &Writers,
    reader: ListReader<'_>,
    holder: &mut PgConnection,
) -> Result<(), ListError> {
    let until = tokio::time::Instant::now() + WRITERS_END_WITHIN;
    while !in_time(writers.have_ended(holder)).await? {
        if tokio::time::Instant::now() > until {
            return Err(ListError::Busy);
        }
        reader.heartbeat.beat();
        reader.sleep(Duration::from_millis(25)).await?;
    }
    Ok(())
}

/// Compares and writes the outcome, in one transaction that holds the row of the day.
async fn settle(
    connection: &mut PgConnection,
    reader: ListReader<'_>,
    due: Due,
    begun: &Begun,
    CheckInput { list, beside, outside }: CheckInput<'_>,
) -> Result<Checked, sqlx::Error> {
    let account = reader.account.id();
    let mut transaction = connection.begin().await?;
    let connection = &mut *transaction;
    let tries = compare::lock(connection, account, due.day).await?;
    let known = bound::known(connection, account, due.day).await?;
    let span = span(connection, reader, due.day, &known.day_of).await?;
    let differences = compare::differences(connection, &span).await?;
    let totals = compare::totals(connection, &span).await?;
    let over = span.to + ledger::SCHEDULE[0].0 <= begun.at;
    let verdict = evaluate(&CheckSnapshot {
        summaries: (list.first.as_ref(), list.last.as_ref()),
        total: list.total,
        unreadable: &list.unreadable,
        outside,
        differences: &differences,
        totals: &totals,
        summary_cost: known.summary_cost.as_deref(),
        over,
    });
    if let (DayState::Settled, None, Some(field @ ("total_cost" | "cost"))) =
        (verdict.state, &known.summary_cost, verdict.summary_cost)
    {
        bound::learn_summary_cost(connection, account, field).await?;
    }
    // A day that is not over cannot be settled: that is no failure.
    let tries =
        if verdict.state == DayState::Settled || !over { 0 } else { u32::try_from(tries).unwrap_or(0) + 1 };
    let now = crate::db::base::clock::Clock::read(connection).await?.now();
    let kept: Vec<_> =
        verdict.besides.iter().chain(&differences.first).take(compare::MOST).cloned().collect();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let id = record::append(
        connection,
        &Check {
            cause: due.cause,
            begun,
            state: verdict.state,
            reason: verdict.reason.as_deref(),
            requests: list.requests + beside,
            summary: list.last.as_ref().map(|summary| summary.text.as_str()),
            summary_cost: verdict.summary_cost,
            missing_here: differences.missing_here,
            missing_there: differences.missing_there,
            differing: differences.differing,
            unreadable: count(list.unreadable.len()),
            recovered: count(list.found.recovered),
            revised: count(list.found.revised),
            totals: &totals,
            differences: &kept,
            next: if due.cause == CheckCause::Manual && span.to <= known.ledger_since {
                // Nobody is promised anything of this day.
                None
            } else {
                ledger::next_check(span.to, now, tries)
            },
            tries,
            span,
        },
    )
    .await?;
    transaction.commit().await?;
    let calls: i64 = totals.iter().map(|total| total.there.calls).sum();
    Ok(Checked {
        day: due.day,
        id,
        state: verdict.state,
        over,
        reason: verdict.reason,
        requests: list.requests + beside,
        calls: u64::try_from(calls).unwrap_or(0),
        new: list.found.new,
        recovered: list.found.recovered,
        revised: list.found.revised,
    })
}

fn say(account: &Account, why: CheckCause, checked: &Checked) {
    let (account, day, cause) = (account.id(), checked.day, why.as_str());
    let &Checked { calls, requests, recovered, revised, .. } = checked;
    match (checked.state, &checked.reason) {
        // Whoever lists years sees how far it is, and the ledger at the end.
        (DayState::Settled, _) if matches!(why, CheckCause::Backfill | CheckCause::Recover) => {
            debug!(%account, %day, cause, calls, requests, recovered, revised, "day settled");
        }
        (DayState::Settled, _) => {
            info!(%account, %day, cause, calls, requests, recovered, revised, "day settled");
        }
        (DayState::Unproven, Some(reason)) if !checked.over => {
            info!(%account, %day, cause, calls, requests, recovered, revised, reason, "day not over");
        }
        (state, reason) => {
            let reason = reason.as_deref().unwrap_or("");
            warn!(%account, %day, cause, calls, requests, recovered, revised, state = state.as_str(), reason, "day not settled");
        }
    }
}
