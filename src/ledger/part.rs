//! A list of a day, or a part of one, as it was read: what it showed, and whether that is all that it says it has. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::money::equals;
use super::seconds::{add_stated, are_seconds};
use crate::db::cdr::Incoming;
use crate::db::ledger::compare::{SideTotals, StatedSums};
use crate::db::ledger::unreadable::UnreadableRow;
use crate::list::StoredPage;
use crate::vobiz::{Cdr, Numeric, Summary};

/// A call that a list showed more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepeatedRow {
    pub(super) call_id: String,
    /// Each time with the same record.
    pub(super) same: bool,
    /// Empty where the record names none.
    pub(super) currency: String,
    /// What the repetition adds to sums that count it.
    pub(super) adds: SideTotals,
}

/// What the pages of a list showed.
#[derive(Debug, Default)]
pub(super) struct PartRead {
    /// The summary of its first page, and of its last one.
    pub(super) first: Option<Summary>,
    pub(super) last: Option<Summary>,
    /// Rows of the whole list, as it says.
    pub(super) total: Option<i64>,
    pub(super) unreadable: Vec<UnreadableRow>,
    /// Pages that Vobiz refused and of which rows are lost, in words.
    pub(super) refused: Vec<String>,
    pub(super) repeated: Vec<RepeatedRow>,
    /// Rows of calls that lists have contradicted before.
    pub(super) contradicting: Vec<Incoming>,
    /// Why it is not all of what it says it has, although it was read to its end, or as far as it can be.
    pub(super) broken: Option<String>,
    /// Each record once: a hash of its key, and one of its content.
    shown: HashMap<u64, u64>,
    sums: SideTotals,
    stated: StatedSums,
    currencies: BTreeSet<String>,
    lost: usize,
    /// Rows of pages of which nothing could be read.
    holes: usize,
}

impl PartRead {
    /// Takes a page in.
    pub(super) fn add(&mut self, page: &StoredPage) {
        let rows = page.ours.iter().map(|row| &row.cdr).chain(&page.foreign);
        for row in rows {
            let content = hash(row.payload.content_hash());
            match self.shown.insert(hash((&row.call_id, row.fields.vobiz_id)), content) {
                None => {
                    self.sums = &self.sums + &of(row);
                    add_stated(&mut self.stated, row);
                    self.currencies.extend(row.fields.currency.clone());
                }
                // The parts of a refused page may lie across its ends.
                Some(_) if page.refused.is_some() => {}
                Some(before) => self.repeated.push(RepeatedRow {
                    call_id: row.call_id.to_string(),
                    same: before == content,
                    currency: row.fields.currency.clone().unwrap_or_default(),
                    adds: of(row),
                }),
            }
        }
        self.lost += page.rows_lost;
        if page.found.rows == 0 {
            self.holes += page.rows_lost;
        }
        self.unreadable.extend(page.unreadable.iter().cloned());
        self.refused.extend(page.refused.iter().filter(|_| page.rows_lost > 0).cloned());
        self.first = self.first.take().or_else(|| page.summary.clone());
        self.last = page.summary.clone().or_else(|| self.last.take());
        self.total = page.total.or(self.total);
    }

    /// Rows that it says it has.
    pub(super) fn promised(&self) -> i64 {
        self.total.max(self.last.as_ref().and_then(|summary| summary.calls)).unwrap_or(0)
    }

    /// Says that it was read to its end: whether that is all. A list that changed meanwhile is another matter.
    pub(super) fn end(&mut self) {
        let rows = self.shown.len() + self.repeated.len() + self.unreadable.len() + self.lost;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        if self.holes > 0 {
            let holes = self.holes;
            self.broken =
                Some(format!("{holes} of its {} rows are on pages that show nothing", self.promised()));
        } else if self.first == self.last && rows < self.promised() {
            self.broken = Some(format!("it ends after {rows} of {} rows", self.promised()));
        }
    }

    /// Takes in another part of the same day. Its sums have been looked at.
    pub(super) fn join(&mut self, part: Self) {
        self.unreadable.extend(part.unreadable);
        self.refused.extend(part.refused);
        self.repeated.extend(part.repeated);
        self.contradicting.extend(part.contradicting);
    }

    /// Whether its rows add up to its own summary; of rows that could not be read it says nothing.
    pub(super) fn adds_up(&self) -> bool {
        let Some(said) = &self.last else { return false };
        let Self { sums, stated, .. } = self;
        // One figure for several currencies is no sum that could be proved here: the day's is looked at as a whole.
        let money = self.currencies.len() > 1
            || said
                .total_cost
                .as_ref()
                .is_none_or(|said| equals(said, &sums.total) || equals(said, &sums.cost));
        let seconds = |said: Option<&Numeric>, read, stated: &[Numeric; 2]| {
            said.is_some_and(|said| are_seconds(said, read, stated))
        };
        let counts = said.calls == Some(sums.calls)
            && seconds(said.duration_seconds.as_ref(), sums.duration, &stated.duration)
            && seconds(said.billable_seconds.as_ref(), sums.billsec, &stated.billsec);
        !self.unreadable.is_empty() || self.lost > 0 || !self.repeated.is_empty() || counts && money
    }
}

fn of(row: &Cdr) -> SideTotals {
    let fields = &row.fields;
    SideTotals {
        calls: 1,
        duration: fields.duration.unwrap_or(0).into(),
        billsec: fields.billsec.unwrap_or(0).into(),
        cost: fields.cost.clone().unwrap_or_default(),
        total: fields.total_cost.clone().unwrap_or_default(),
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
