//! One page of the list, from its slot in the rate limit to its rows in the tables: what sweep and ledger share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ListError;
use super::page::{Found, ListTally, StoredPage};
use crate::account::{Account, Priority};
use crate::db::base::clock::Clock;
use crate::db::base::retry::{OneByOne, on_conflict};
use crate::db::cdr::{Incoming, Origin};
use crate::db::ledger::unreadable::{self, UnreadableRow};
use crate::db::queue;
use crate::db::queue::backlog::{self, Backlog};
use crate::db::{DbError, Fault, timed};
use crate::vobiz::{AccountId, CallId, Cdr, FetchError, ListPage, ListQuery, Payload, RowError};
use crate::watch::heartbeat::Heartbeat;
use crate::watch::metrics::Metrics;

/// Rows a page: the most that Vobiz gives (documented).
pub(crate) const PER_PAGE: u32 = 100;
/// A list that needs more pages than this is not read to its end: a day is read in parts instead, another reader stops and says so.
pub(crate) const MOST_PAGES: u32 = 20_000;
pub(crate) const DB_TIMEOUT: Duration = Duration::from_secs(15);
/// A page is asked for so often before the list counts as failing: thousands of pages must not be read again for one bad moment
/// of the API.
pub(super) const TRIES: u32 = 4;
/// A page that is refused is seldom refused by mistake.
const TRIES_REFUSED: u32 = 2;
/// Calls that a line of the log names.
const NAMED: usize = 3;
/// See [`ListError::Odd`].
const EMPTY_PAGE: &str = "an empty page where its pagination promises rows";

/// Who reads the list of an account, and how it says that it moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListReader<'a> {
    pub(crate) pool: &'a PgPool,
    pub(crate) metrics: &'a Metrics,
    /// All configured accounts: a row of another main one among them is none of ours.
    pub(crate) accounts: &'a [Arc<Account>],
    pub(crate) account: &'a Account,
    /// One of [`crate::watch::metrics::LIST_FLOWS`].
    pub(crate) flow: &'static str,
    /// Its priority for a slot of the rate limit.
    pub(crate) priority: Priority,
    /// How a call came to be known that nothing had announced.
    pub(crate) origin: Origin,
    pub(crate) heartbeat: &'a Heartbeat,
    pub(crate) stop: &'a CancellationToken,
    /// Where it counts.
    pub(crate) tally: &'a ListTally,
    /// Pages that it reads of one list.
    pub(crate) most_pages: u32,
}

/// The readable rows of a page.
#[derive(Debug, Default)]
struct Sorted {
    ours: Vec<Incoming>,
    /// Of another configured main account.
    foreign: Vec<Cdr>,
    /// As they came.
    unreadable: Vec<(UnreadableRow, Payload)>,
    /// The calls that rows show which are no CDR.
    shown: Vec<CallId>,
}

impl ListReader<'_> {
    /// Reads a page and stores it. `reserved_to` is the reservation under which the reader looks for calls; it is asked for so often.
    pub(super) async fn read(
        &self,
        query: &ListQuery,
        reserved_to: Option<DateTime<Utc>>,
        tries: u32,
    ) -> Result<StoredPage, ListError> {
        let (listed, clock, requested_at) = self.ask_retrying(query, tries).await?;
        self.metrics.list_pages.with_label_values(&[self.flow]).inc();
        if listed.rows.is_empty() && promises_rows(&listed, query.page) {
            return Err(ListError::Odd(EMPTY_PAGE));
        }
        // Of two words about the end, the one that costs a page more is believed.
        let more = listed.pages.is_some_and(|pages| i64::from(query.page) < pages);
        let is_last = listed.rows.is_empty() || (listed.has_next == Some(false) && !more);
        let listed_rows = listed.rows.len();
        let (pages, total, summary, per_page) = (listed.pages, listed.total, listed.summary, listed.per_page);
        let Sorted { ours, foreign, mut unreadable, shown } = self.sort_out(listed.rows, requested_at);
        let instants = || ours.iter().filter_map(|row| latest(&row.cdr));
        let (newest, oldest) = (instants().max(), instants().min());
        let call_ids = ours.iter().map(|row| row.cdr.call_id.clone()).collect();
        let (ours, brought, refused) = self.store(ours, reserved_to, clock).await?;
        unreadable.extend(refused);
        self.keep_unreadable(&unreadable, &shown).await?;
        let found = Found { rows: listed_rows, unreadable: unreadable.len(), ..brought };
        self.tally.add(found);
        let unreadable = unreadable.into_iter().map(|(row, _)| row).collect();
        self.heartbeat.beat();
        Ok(StoredPage {
            call_ids,
            pages,
            is_last,
            newest,
            oldest,
            found,
            ours,
            foreign,
            unreadable,
            summary,
            total,
            per_page,
            requested_at: Some(requested_at),
            ..StoredPage::default()
        })
    }

    /// Asks for a page in its turn. A 429 is waited for and a bad moment is outlasted: the page is asked for again, not the whole
    /// list. How often is a rule of the reader's own and not of `retry.rs`: that one ends a call, which a page never does, and what a
    /// failed page means for the account is asked of it (`pause_after_page`, by [`Account::list_failed`]). Also says when it was asked for: a version is as old as its request, however long the answer took.
    async fn ask_retrying(
        &self,
        query: &ListQuery,
        tries: u32,
    ) -> Result<(ListPage, Clock, DateTime<Utc>), ListError> {
        let account = self.account;
        for attempt in 1.. {
            self.wait_while_paused().await?;
            // At a low rate a slot may be minutes away.
            self.heartbeat.idle();
            tokio::select! {
                () = account.wait_for_slot(self.priority) => {}
                () = self.stop.cancelled() => return Err(ListError::Stopped),
            }
            self.heartbeat.beat();
            let clock = timed!(self.pool, DB_TIMEOUT, |connection| Clock::read(connection)).await?;
            let requested_at = clock.now();
            account.check_clock(requested_at).await?;
            self.tally.count_request();
            let error = match account.client.list_cdrs(query).await {
                Ok(listed) => {
                    account.answered().await;
                    account.check_clock(clock.now()).await?;
                    return Ok((listed, clock, requested_at));
                }
                Err(error) => error,
            };
            account.list_failed(&error).await;
            let throttled = matches!(error, FetchError::Throttled { .. });
            let tries =
                if matches!(error, FetchError::Refused(_)) { tries.min(TRIES_REFUSED) } else { tries };
            if attempt >= tries || !throttled {
                let paused = account.is_paused().await?;
                if paused {
                    return Err(ListError::Paused);
                }
                if attempt >= tries {
                    return Err(error.into());
                }
            }
            debug!(account = %account.id(), page = query.page, error = error.brief(), "a page of the list failed");
            if !throttled {
                self.sleep(Duration::from_millis(500 << attempt)).await?;
            }
        }
        Err(ListError::Paused)
    }

    /// A pause that a fetch found holds for the list too; a short one is waited for.
    async fn wait_while_paused(&self) -> Result<(), ListError> {
        for _ in 0..120 {
            self.heartbeat.beat();
            if self.stop.is_cancelled() {
                return Err(ListError::Stopped);
            }
            if !self.account.is_paused().await? {
                return Ok(());
            }
            self.sleep(Duration::from_secs(1)).await?;
        }
        Err(ListError::Paused)
    }

    pub(crate) async fn sleep(&self, length: Duration) -> Result<(), ListError> {
        tokio::select! {
            () = tokio::time::sleep(length) => Ok(()),
            () = self.stop.cancelled() => Err(ListError::Stopped),
        }
    }

    /// Sorts the rows of a page.
    fn sort_out(&self, rows: Vec<Result<Box<Cdr>, RowError>>, requested_at: DateTime<Utc>) -> Sorted {
        let account = self.account;
        let mut sorted = Sorted::default();
        for row in rows {
            match row {
                Ok(cdr) if self.is_foreign(&cdr) => sorted.foreign.push((*cdr).without_future(requested_at)),
                Ok(cdr) if !cdr.may_belong_to(account.id(), |owner| self.is_configured(owner)) => {
                    let why = format!("it is of another account: {}", cdr.named_owner().unwrap_or_default());
                    let call_id = Some(cdr.call_id.to_string());
                    sorted.unreadable.push((UnreadableRow { call_id, why }, cdr.payload));
                }
                Ok(cdr) => {
                    sorted.ours.push(Incoming::new(*cdr, account.id(), self.origin, false, requested_at));
                }
                Err(error) => {
                    let row = UnreadableRow { call_id: error.shown_id(), why: error.to_string() };
                    sorted.unreadable.push((row, error.payload));
                    sorted.shown.extend(error.call_id);
                }
            }
        }
        sorted
    }

    /// Keeps rows that could not be read as they came, and owes the calls that those show which are no CDR: their single records may be
    /// whole. A row is logged when it is seen first, and not with each page that shows it again.
    async fn keep_unreadable(
        &self,
        rows: &[(UnreadableRow, Payload)],
        shown: &[CallId],
    ) -> Result<(), ListError> {
        if rows.is_empty() {
            return Ok(());
        }
        let account = self.account.id();
        let shown: Vec<&str> = shown.iter().map(CallId::as_str).collect();
        let (fresh, owed) = timed!(self.pool, DB_TIMEOUT, |connection| async {
            let fresh = unreadable::keep(&mut *connection, account, rows).await?;
            let owed = queue::owe_listed(connection, account, &shown).await?;
            Ok::<_, sqlx::Error>((fresh, owed))
        })
        .await?;
        let fresh: Vec<&UnreadableRow> =
            fresh.into_iter().filter_map(|place| rows.get(place)).map(|(row, _)| row).collect();
        let Some(first) = fresh.first() else {
            debug!(%account, rows = rows.len(), "rows of the list could not be read, as before");
            return Ok(());
        };
        let named = fresh.iter().filter_map(|row| row.call_id.as_deref()).take(NAMED);
        let calls = named.collect::<Vec<_>>().join(", ");
        warn!(
            %account, rows = fresh.len(), calls, why = first.why, asked_singly = owed.len(),
            "rows of the list could not be read: they are kept in vobiz.unreadable_row, and each is said once"
        );
        Ok(())
    }

    fn is_foreign(&self, cdr: &Cdr) -> bool {
        let asked = self.account.id();
        cdr.account_id.as_ref().is_some_and(|owner| {
            owner != asked
                && owner.as_str().starts_with("MA_")
                && asked.as_str().starts_with("MA_")
                && self.is_configured(owner)
        })
    }

    fn is_configured(&self, owner: &AccountId) -> bool {
        self.accounts.iter().any(|account| account.id() == owner)
    }

    /// Stores a page in one transaction; one that fails on data row by row. Returns the rows in their order, what they brought, and
    /// why Postgres refused some.
    async fn store(
        &self,
        rows: Vec<Incoming>,
        reserved_to: Option<DateTime<Utc>>,
        clock: Clock,
    ) -> Result<(Vec<Incoming>, Found, Vec<(UnreadableRow, Payload)>), ListError> {
        let (mut stored, mut found, mut refused) = (Vec::new(), Found::default(), Vec::new());
        let mut parts = OneByOne::of(rows);
        while let Some(mut part) = parts.next() {
            let result = self.commit(&mut part, reserved_to, clock).await;
            let Some((part, result)) = parts.unless_split(part, result) else { continue };
            match result {
                Ok(more) => found.add(more),
                Err(error) if error.fault() == Fault::Data => {
                    for row in &part {
                        let call_id = Some(row.cdr.call_id.to_string());
                        let row = (
                            UnreadableRow { call_id, why: format!("Postgres refuses it: {error}") },
                            row.cdr.payload.clone(),
                        );
                        refused.push(row);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            stored.extend(part);
        }
        Ok((stored, found, refused))
    }

    async fn commit(
        &self,
        rows: &mut [Incoming],
        reserved_to: Option<DateTime<Utc>>,
        clock: Clock,
    ) -> Result<Found, DbError> {
        if rows.is_empty() {
            return Ok(Found::default());
        }
        let origin = self.origin;
        let stored = on_conflict!(timed!(self.pool, DB_TIMEOUT, |connection| queue::store_listed(
            connection,
            rows,
            origin,
            reserved_to
        )))
        .await?;
        let found = Found {
            new: stored.upserted.new,
            // A call that is owed although it is stored already is rare: between a sweep and the lease that finds it so.
            recovered: stored.upserted.new.saturating_sub(usize::try_from(stored.paid).unwrap_or(usize::MAX)),
            revised: stored.upserted.revised,
            paid: stored.paid,
            reserved: stored.reserved,
            ..Found::default()
        };
        self.metrics.recovered.inc_by(found.recovered as u64);
        let now = clock.now();
        for row in rows.iter().filter(|row| stored.new.contains(row.cdr.call_id.as_str())) {
            if let Some(ended_at) = row.cdr.fields.end_time {
                let age = (now - ended_at).as_seconds_f64().max(0.0);
                self.metrics.freshness_seconds.observe(age);
            }
        }
        Ok(found)
    }
}

impl ListReader<'_> {
    async fn snapshot(&self) -> Result<Option<backlog::BacklogSnapshot>, ListError> {
        let (id, max_rps) = (self.account.id(), self.account.max_rps);
        Ok(timed!(self.pool, DB_TIMEOUT, |connection| backlog::snapshot(connection, id, max_rps)).await?)
    }

    pub(crate) async fn has_backlog(&self) -> Result<bool, ListError> {
        Ok(self.snapshot().await?.is_some_and(|snapshot| snapshot.is_backlog()))
    }

    /// Whether single fetches cannot keep up just now, or a drain is under way.
    pub(crate) async fn is_behind(&self) -> Result<bool, ListError> {
        Ok(self.snapshot().await?.is_some_and(|snapshot| snapshot.reserved || snapshot.is_backlog()))
    }

    /// The backlog, if there is one that nobody has reserved.
    pub(crate) async fn backlog(&self) -> Result<Option<Backlog>, ListError> {
        if !self.snapshot().await?.is_some_and(|snapshot| snapshot.is_backlog() && !snapshot.reserved) {
            return Ok(None);
        }
        let account = self.account.id();
        Ok(timed!(self.pool, DB_TIMEOUT, |connection| backlog::measure(connection, account)).await?)
    }
}

/// Whether rows ought to be on a page that has none. A list without rows may say that it has one page.
fn promises_rows(listed: &ListPage, page: u32) -> bool {
    let page = i64::from(page);
    let none = listed.total.or(listed.summary.as_ref().and_then(|summary| summary.calls)).unwrap_or(0) == 0;
    listed.pages.is_some_and(|pages| page <= pages && !(none && pages == 1)) && listed.total != Some(0)
}

/// The last instant that a row tells of.
fn latest(cdr: &Cdr) -> Option<DateTime<Utc>> {
    let fields = &cdr.fields;
    [fields.start_time, fields.end_time, fields.created_at].into_iter().flatten().max()
}
