//! The check of one provider day: read its list, store what is new in it, compare, and append the outcome to the ledger.
//!
//! It promises: a day is called settled only when the list's own totals equal its rows, each row equals ours, and each of ours
//! is listed; and no change of a call of the day falls between the comparison and the word. A check that finds calls that we
//! lacked stores them first, and says so.
//!
//! [`DayCheck::run`] is the story, from top to bottom. The SQL of each step is in `db/ledger/`, the decision in `evaluate.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::day_list::DayList;
use super::evaluate::{CheckSnapshot, evaluate};
use super::outcome::{Checked, log_outcome};
use crate::account::{Account, Priority};
use crate::db::base::clock::Clock;
use crate::db::base::retry::on_conflict;
use crate::db::base::work_lease::{LeaseSession, LeasedWork, WorkLease, fenced};
use crate::db::bill::proof;
use crate::db::bill::rollup::VerifyScope;
use crate::db::cdr::Origin;
use crate::db::ledger::bound;
use crate::db::ledger::compare::{self, DaySpan, LedgerDifference};
use crate::db::ledger::record::{self, Check, DayState};
use crate::db::ledger::{self, Begun, CheckCause, Due, Writers, contradiction, listed, refused};
use crate::db::timed;
use crate::list::{DB_TIMEOUT, ListError, ListReader, ListTally, in_time, within};
use crate::vobiz::AccountId;

/// Comparing the calls of a large day takes a second or two.
pub(super) const COMPARE_TIMEOUT: Duration = Duration::from_secs(120);
/// A transaction of ours that stores calls gives up sooner than that: so an older one is none of ours.
const WRITERS_END_WITHIN: Duration = Duration::from_secs(30);
/// While a backlog is resolved by the list, a check would read the same pages beside it, at half the rate for both. No longer
/// than this: somewhere there may always be one.
const WAITS_FOR_A_BACKLOG: Duration = Duration::from_secs(2 * 3600);
/// Another day is tried this long after one whose list could not be read.
const PUT_OFF: Duration = Duration::from_secs(15 * 60);
/// Whoever adds up years at length to repair their sums has the lock of the proofs for minutes.
const PROOFS_END_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Between two tries to take the lease of the check, where a person waits for it.
const ANOTHER_TRY: Duration = Duration::from_millis(500);

impl super::Ledger {
    /// Checks the day of an account that has been due for longest, if one is due, the account is not paused, and no other replica
    /// is at one.
    pub async fn check_if_due(
        &self,
        account: &Account,
        stop: &CancellationToken,
    ) -> Result<Option<Checked>, ListError> {
        let (heartbeat, tally) = (self.heartbeat(account), ListTally::default());
        let reader =
            self.reader("ledger", (Priority::Ledger, Origin::Sweep), account, &heartbeat, &tally, stop);
        let due = async |at_least| {
            timed!(&self.pool, DB_TIMEOUT, |connection| ledger::due(connection, account.id(), at_least)).await
        };
        let clock = timed!(&self.pool, DB_TIMEOUT, |connection| Clock::read(connection)).await?;
        // Days that were compared in what it takes for the future would be opened.
        account.check_clock(clock.now()).await?;
        if due(Duration::ZERO).await?.is_none() || account.is_paused().await? {
            return Ok(None);
        }
        let wait = if reader.is_behind().await? { WAITS_FOR_A_BACKLOG } else { Duration::ZERO };
        let Some(due) = due(wait).await? else { return Ok(None) };
        let checked = check_if_free(reader, due).await;
        if !matches!(&checked, Ok(_) | Err(ListError::Stopped | ListError::Paused))
            && !checked.as_ref().is_err_and(|error| error.is_lost_lease() || error.is_clock_behind())
        {
            // Other days may fare better. (Of a day that another replica has taken over, it speaks.)
            let why = checked.as_ref().err().map(ListError::brief).unwrap_or_default();
            let put_off = timed!(&self.pool, DB_TIMEOUT, |connection| record::put_off(
                connection,
                account.id(),
                due.day,
                PUT_OFF,
                &why
            ));
            put_off.await?;
        }
        checked
    }

    /// Checks a day because a person asks for it; waits until no other replica is at a day of the account. `origin` is how calls
    /// came to be known that nothing had announced.
    pub async fn check_day(
        &self,
        account: &Account,
        due: Due,
        origin: Origin,
        stop: &CancellationToken,
    ) -> Result<Checked, ListError> {
        loop {
            let checked = self.check_unless(account, due, None, origin, &ListTally::default(), stop).await?;
            if let Some(checked) = checked {
                return Ok(checked);
            }
        }
    }

    /// The same; none if another replica has settled the day since an instant.
    pub(super) async fn check_unless(
        &self,
        account: &Account,
        due: Due,
        settled_since: Option<DateTime<Utc>>,
        origin: Origin,
        tally: &ListTally,
        stop: &CancellationToken,
    ) -> Result<Option<Checked>, ListError> {
        let (id, day) = (account.id(), due.day);
        let heartbeat = self.heartbeat(account);
        let reader = self.reader("backfill", (Priority::Backfill, origin), account, &heartbeat, tally, stop);
        timed!(&self.pool, DB_TIMEOUT, |connection| ledger::ensure(connection, id, day, day)).await?;
        // However long that lasts, on one session.
        let (mut waiting, mut has_waited) = (None, false);
        let (session, lease) = loop {
            if let Some(since) = settled_since
                && timed!(&self.pool, DB_TIMEOUT, |connection| ledger::is_settled_since(
                    connection, id, day, since
                ))
                .await?
            {
                if let Some(session) = waiting {
                    LeaseSession::close(session, None).await;
                }
                return Ok(None);
            }
            let session = match waiting.take() {
                Some(session) => Some(session),
                None => LeaseSession::open(&self.pool, LeasedWork::Long).await?,
            };
            if let Some(mut session) = session {
                match take_lease(&mut session, id).await {
                    Ok(Some(lease)) => break (session, lease),
                    Ok(None) => (waiting, has_waited) = (Some(session), true),
                    // It may have been ended while it waited: what fails on a new one as well stands in the way.
                    Err(_) if has_waited => {
                        has_waited = false;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            reader.sleep(ANOTHER_TRY).await?;
        };
        check_alone(reader, due, session, lease).await.map(Some)
    }
}

/// Checks a day, unless another replica is at a day of the account, or this one at as many days of others as it may.
async fn check_if_free(reader: ListReader<'_>, due: Due) -> Result<Option<Checked>, ListError> {
    let Some(mut session) = LeaseSession::open(reader.pool, LeasedWork::Long).await? else { return Ok(None) };
    let Some(lease) = take_lease(&mut session, reader.account.id()).await? else {
        session.close(None).await;
        return Ok(None);
    };
    check_alone(reader, due, session, lease).await.map(Some)
}

async fn take_lease(session: &mut LeaseSession, account: &AccountId) -> Result<Option<WorkLease>, ListError> {
    in_time(WorkLease::take(session.connection(), &ledger::lease_name(account))).await
}

/// Checks a day. All that the check notes and compares goes through the session of its lease: if it is lost, so is the check. And what it
/// writes is fenced: a check whose lease has ended says nothing, though its session may still be there.
async fn check_alone(
    reader: ListReader<'_>,
    due: Due,
    mut session: LeaseSession,
    lease: WorkLease,
) -> Result<Checked, ListError> {
    let (connection, contradicted) = (session.connection(), BTreeSet::new());
    let check = DayCheck { reader, due, lease: &lease, connection, contradicted };
    let checked = lease.hold(reader.pool, Box::pin(check.run())).await;
    session.close(Some(lease)).await;
    checked
}

/// A check under way, on the session of its lease.
pub(super) struct DayCheck<'a> {
    pub(super) reader: ListReader<'a>,
    pub(super) due: Due,
    pub(super) lease: &'a WorkLease,
    pub(super) connection: &'a mut PgConnection,
    /// Uuids of calls that the lists of the last checks have contradicted.
    pub(super) contradicted: BTreeSet<String>,
}

impl DayCheck<'_> {
    async fn run(mut self) -> Result<Checked, ListError> {
        if !self.reader.account.ensure_access().await {
            return Err(ListError::Paused);
        }
        let (account, day) = (self.reader.account.id(), self.due.day);
        in_time(fenced!(self.lease, self.connection, |transaction| listed::clear(transaction, account)))
            .await?;
        let began_at = in_time(fenced!(self.lease, self.connection, |transaction| ledger::begin(
            transaction,
            account,
            day
        )))
        .await?;
        // Asked for once that is committed.
        let begun = Begun { at: began_at, writers: in_time(ledger::writers(self.connection)).await? };
        self.wait_for(&begun.writers).await?;
        self.contradicted = in_time(contradiction::calls(self.connection, account, day)).await?;
        let mut list = self.read_list(day).await?;
        let zone = self.infer_zone(&mut list).await?;
        self.read_beside(&mut list, &zone).await?;
        within(
            COMPARE_TIMEOUT,
            fenced!(self.lease, self.connection, |transaction| record::keep_announcements(
                transaction,
                account,
                day
            )),
        )
        .await?;
        if list.new_owners {
            // A writer that has just changed a call of theirs may not have known that this list shows it.
            let writers = in_time(ledger::writers(self.connection)).await?;
            self.wait_for(&writers).await?;
        }
        self.let_the_list_win(&mut list).await?;
        let checked = self.compare(&begun, &list).await?;
        in_time(fenced!(self.lease, self.connection, |transaction| listed::clear(transaction, account)))
            .await?;
        let closed = fenced!(self.lease, self.connection, |transaction| record::close_never_appeared(
            transaction,
            account
        ));
        for call_id in within(COMPARE_TIMEOUT, closed).await? {
            info!(call_id, "dead letter closed: the settled days around it lack the call");
        }
        log_outcome(self.reader.account, self.due.cause, &checked);
        Ok(checked)
    }

    /// Waits until the writers that may not have known of the check have committed or given up. One that began later says on the
    /// day's row what it changes. Our own writers end in time; a foreign transaction that writes for longer puts the check off.
    async fn wait_for(&mut self, writers: &Writers) -> Result<(), ListError> {
        let until = tokio::time::Instant::now() + WRITERS_END_WITHIN;
        while !in_time(writers.have_ended(self.connection)).await? {
            if tokio::time::Instant::now() > until {
                return Err(ListError::Busy);
            }
            self.reader.heartbeat.beat();
            self.reader.sleep(Duration::from_millis(25)).await?;
        }
        Ok(())
    }

    /// Compares and records, again where Postgres breaks it off. A session that holds the row of the day is waited for before others wait
    /// for us; one that came to hold it meanwhile, anew, and so is whoever proves sums: the list that was read stays read.
    async fn compare(&mut self, begun: &Begun, list: &DayList) -> Result<Checked, ListError> {
        let until = tokio::time::Instant::now() + PROOFS_END_WITHIN;
        loop {
            if within(COMPARE_TIMEOUT, self.wait_for_row()).await? {
                let checked = on_conflict!(within(COMPARE_TIMEOUT, self.compare_and_record(begun, list)));
                if let Some(checked) = checked.await? {
                    return Ok(checked);
                }
            }
            if tokio::time::Instant::now() > until {
                return Err(ListError::Held);
            }
            self.reader.heartbeat.beat();
            self.reader.sleep(Duration::from_millis(25)).await?;
        }
    }

    /// False if a session holds it for longer than a moment.
    async fn wait_for_row(&mut self) -> Result<bool, sqlx::Error> {
        let (account, day) = (self.reader.account.id(), self.due.day);
        let mut transaction = self.connection.begin().await?;
        let locked = compare::lock_soon(&mut transaction, account, day).await?;
        transaction.rollback().await?;
        Ok(locked.is_some())
    }

    /// Compares, evaluates and appends the outcome, in one transaction that holds the row of the day; none if that cannot be had, or the
    /// lock of the proofs.
    async fn compare_and_record(
        &mut self,
        begun: &Begun,
        list: &DayList,
    ) -> Result<Option<Checked>, sqlx::Error> {
        let (account, due) = (self.reader.account.id(), self.due);
        let mut transaction = self.connection.begin().await?;
        let connection = &mut *transaction;
        self.lease.fence(connection).await?;
        if !proof::lock_soon(connection).await? {
            return Ok(None);
        }
        // Before the writers of the day wait for us: each side of it is added up in one snapshot, whoever writes.
        let wrong_sums = prove_sums_of_day(connection, account, due.day).await?;
        let Some(tries) = compare::lock_soon(connection, account, due.day).await? else { return Ok(None) };
        let zone = bound::inferred(connection, account, due.day).await?;
        let (from, to) = bound::span(connection, account, due.day).await?;
        let span = DaySpan { account, day: due.day, day_of: &zone.day_of, from, to };
        let differences = compare::differences(connection, &span).await?;
        let totals = compare::totals(connection, &span).await?;
        let over = span.to + ledger::SCHEDULE[0].0 <= begun.at;
        let decision = evaluate(&CheckSnapshot {
            summaries: (list.read.first.as_ref(), list.read.last.as_ref()),
            total: list.read.total,
            refused: &list.read.refused,
            refused_beside: &list.refused_beside,
            unreadable: &list.read.unreadable,
            repeated: &list.read.repeated,
            outside: list.outside,
            differences: &differences,
            wrong_sums: wrong_sums.len(),
            totals: &totals,
            summary_cost: zone.summary_cost.as_deref(),
            over,
        });
        let learned = decision
            .summary_cost
            .filter(|field| decision.teaches && zone.summary_cost.is_none() && *field != "either");
        if let Some(field) = learned {
            bound::write_down_summary_cost(connection, account, field).await?;
        }
        let totals = decision.counted.unwrap_or(totals);
        let now = Clock::read(connection).await?.now();
        // A day that is not over cannot be settled: that is no failure.
        let failed = decision.state != DayState::Settled && over;
        let tries = if failed { u32::try_from(tries).unwrap_or(0) + 1 } else { 0 };
        let next = if due.cause == CheckCause::Manual && span.to <= zone.ledger_since {
            // Nobody is promised anything of this day.
            None
        } else {
            ledger::next_check(span.to, now, tries)
        };
        // The calls first: a rollup that is wrong throughout has more sums than are kept.
        let shown = decision.besides.iter().chain(&differences.first).chain(&wrong_sums);
        let shown = shown.take(compare::MOST).cloned();
        let check = Check {
            span,
            cause: due.cause,
            begun,
            state: decision.state,
            reason: decision.reason.as_deref(),
            requests: self.reader.tally.requests(),
            summary: list.read.last.as_ref().map(|summary| summary.text.as_str()),
            summary_cost: decision.summary_cost,
            money: decision.money.as_deref(),
            missing_here: differences.missing_here,
            missing_there: differences.missing_there,
            differing: differences.differing,
            billed_elsewhere: differences.billed_elsewhere,
            listed_twice: differences.listed_twice,
            wrong_sums: count(wrong_sums.len()),
            unreadable: count(list.read.unreadable.len()),
            recovered: count(list.found.recovered),
            revised: count(list.found.revised),
            totals: &totals,
            differences: &shown.collect::<Vec<_>>(),
            next,
            tries,
        };
        let id = record::append(connection, &check).await?;
        refused::forget_settled(connection, account).await?;
        transaction.commit().await?;
        if learned == Some("cost") {
            info!(%account, day = %due.day, "the total_cost of Vobiz's summaries is the sum of cost, without streaming: days are compared by that");
        }
        let calls: i64 = totals.iter().map(|total| total.there.calls).sum();
        Ok(Some(Checked {
            day: due.day,
            id,
            state: decision.state,
            over,
            reason: decision.reason,
            money: decision.money,
            requests: self.reader.tally.requests(),
            calls: u64::try_from(calls).unwrap_or(0),
            new: list.found.new,
            recovered: list.found.recovered,
            revised: list.found.revised,
            listed_twice: differences.listed_twice,
        }))
    }
}

/// Proves the sums of the billing days that a day touches, in the transaction of its comparison.
async fn prove_sums_of_day(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Vec<LedgerDifference>, sqlx::Error> {
    let (from, to) = bound::span(&mut *connection, account, day).await?;
    let (first, last) = proof::days_of(&mut *connection, from, to).await?;
    let owners = proof::owners(&mut *connection, Some(account.as_str()), first, last).await?;
    let scope = VerifyScope { accounts: Some(&owners), from: Some(first), to: Some(last) };
    let wrong = proof::prove(connection, scope).await?;
    Ok(wrong
        .into_iter()
        .map(|sum| LedgerDifference {
            kind: "sums".into(),
            call_id: None,
            field: Some(format!("{} {}: {}", sum.account_id, sum.day, sum.key)),
            here: Some(sum.kept.to_string()),
            there: Some(sum.calls.to_string()),
        })
        .collect())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
