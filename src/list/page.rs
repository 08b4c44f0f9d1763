//! What pages of a list bring: their rows as they were stored, and how many of what.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use chrono::{DateTime, Utc};

use crate::db::cdr::Incoming;
use crate::db::ledger::unreadable::UnreadableRow;
use crate::vobiz::{CallId, Cdr, Summary};

/// What a reader has asked for and found so far, also where it fails in the end.
#[derive(Debug, Default)]
pub(crate) struct ListTally {
    requests: AtomicU32,
    rows: AtomicUsize,
    new: AtomicUsize,
    revised: AtomicUsize,
}

impl ListTally {
    pub(super) fn add(&self, found: Found) {
        self.rows.fetch_add(found.rows, Ordering::Relaxed);
        self.new.fetch_add(found.new, Ordering::Relaxed);
        self.revised.fetch_add(found.revised, Ordering::Relaxed);
    }

    /// A request was sent.
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests, refused ones included.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What the pages brought; only rows, new calls and new versions are counted.
    pub(crate) fn found(&self) -> Found {
        Found {
            rows: self.rows.load(Ordering::Relaxed),
            new: self.new.load(Ordering::Relaxed),
            revised: self.revised.load(Ordering::Relaxed),
            ..Found::default()
        }
    }
}

/// A page that is stored; one that was refused is made of its parts.
#[derive(Debug, Default)]
pub(crate) struct StoredPage {
    /// Its readable rows in their order.
    pub(crate) call_ids: Vec<CallId>,
    /// Pages of the whole list, as it says.
    pub(crate) pages: Option<i64>,
    /// No page follows.
    pub(crate) is_last: bool,
    /// The latest instant of its newest row.
    pub(crate) newest: Option<DateTime<Utc>>,
    /// The latest instant of its oldest row.
    pub(crate) oldest: Option<DateTime<Utc>>,
    /// What it brought.
    pub(crate) found: Found,
    /// Its rows that are ours, as they were stored.
    pub(crate) ours: Vec<Incoming>,
    /// Rows of other configured main accounts.
    pub(crate) foreign: Vec<Cdr>,
    /// Rows that could not be read.
    pub(crate) unreadable: Vec<UnreadableRow>,
    /// Vobiz's own totals over all pages.
    pub(crate) summary: Option<Summary>,
    /// Rows of the whole list, as it says.
    pub(crate) total: Option<i64>,
    /// Rows a page, as it says.
    pub(super) per_page: Option<i64>,
    /// When it was asked for.
    pub(super) requested_at: Option<DateTime<Utc>>,
    /// Why it is made of parts, and what of it is lost, in words.
    pub(crate) refused: Option<String>,
    /// Of these words: rows that are lost.
    pub(crate) rows_lost: usize,
    /// Of how many parts it is made.
    pub(super) parts: u32,
}

impl StoredPage {
    /// Adds a part of it.
    pub(super) fn add(&mut self, part: Self) {
        self.call_ids.extend(part.call_ids);
        self.is_last |= part.is_last;
        self.newest = self.newest.max(part.newest);
        self.oldest = [self.oldest, part.oldest].into_iter().flatten().min();
        self.found.add(part.found);
        self.ours.extend(part.ours);
        self.foreign.extend(part.foreign);
        self.unreadable.extend(part.unreadable);
        self.summary = part.summary.or(self.summary.take());
        self.total = part.total.or(self.total);
        self.requested_at = self.requested_at.or(part.requested_at);
        self.parts += 1;
    }
}

/// What pages brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Rows, repeats included.
    pub(crate) rows: usize,
    /// Calls stored for the first time.
    pub(crate) new: usize,
    /// Of these, calls that nothing had owed.
    pub(crate) recovered: usize,
    /// Calls with a new version.
    pub(crate) revised: usize,
    /// Rows that could not be read.
    pub(crate) unreadable: usize,
    /// Owed calls that it paid.
    pub(crate) paid: u64,
    /// Of these, calls under the reservation.
    pub(crate) reserved: u64,
}

impl Found {
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.new += other.new;
        self.recovered += other.recovered;
        self.revised += other.revised;
        self.unreadable += other.unreadable;
        self.paid += other.paid;
        self.reserved += other.reserved;
    }
}
