//! A list of a day, or a part of one, as it was read: what it showed, and whether that is all that it says it has. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::money::equals;
use super::seconds::{add_stated, add_sums, are_seconds};
use super::words::on_rows_across_pages;
use crate::db::cdr::Incoming;
use crate::db::ledger::compare::{SideTotals, StatedSums};
use crate::db::ledger::unreadable::UnreadableRow;
use crate::list::{PER_PAGE, StoredPage};
use crate::vobiz::{Cdr, Numeric, Summary};

/// A call that a page of a list showed more than once, or a list with different records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepeatedRow {
    pub(super) call_id: String,
    /// Each time with the same record.
    pub(super) same: bool,
    /// Empty where the record names none.
    pub(super) currency: String,
    /// What the repetition adds to sums that count it.
    pub(super) adds: SideTotals,
    /// The same, as it states its seconds.
    pub(super) states: StatedSums,
}

/// What the pages of a list showed.
#[derive(Debug, Default)]
pub(super) struct PartRead {
    /// The summary of its first page, and of its last one.
    pub(super) first: Option<Summary>,
    pub(super) last: Option<Summary>,
    /// Rows of the whole list, as it says.
    pub(super) total: Option<i64>,
    /// Its pages, as it says.
    of_pages: Option<i64>,
    pub(super) unreadable: Vec<UnreadableRow>,
    /// Pages that Vobiz refused and of which rows are lost, in words.
    pub(super) refused: Vec<String>,
    pub(super) repeated: Vec<RepeatedRow>,
    /// Rows of calls that lists have contradicted before.
    pub(super) contradicting: Vec<Incoming>,
    /// Why it is not all of what it says it has, although it was read to its end, or as far as it can be.
    pub(super) broken: Option<String>,
    /// Each record once, by a hash of its key; none any more once its last page is read.
    shown: HashMap<u64, FirstShown>,
    /// Calls that stand with the same record on more than one page. Where equal times shift rows from page to page, one is shown again in
    /// place of another that no page shows: nothing that is counted tells the two apart.
    across: BTreeSet<String>,
    /// Pages taken in.
    pages: usize,
    sums: SideTotals,
    stated: StatedSums,
    currencies: BTreeSet<String>,
    lost: usize,
    /// Rows of pages of which nothing could be read.
    holes: usize,
}

/// Where a record was shown first.
#[derive(Debug, Clone, Copy)]
struct FirstShown {
    /// A hash of it.
    content: u64,
    page: usize,
    /// The page was read in parts.
    in_parts: bool,
}

impl PartRead {
    /// Takes a page in.
    pub(super) fn add(&mut self, page: &StoredPage) {
        self.pages += 1;
        let in_parts = page.refused.is_some();
        let rows = page.ours.iter().map(|row| &row.cdr).chain(&page.foreign);
        for row in rows {
            let content = hash(row.payload.content_hash());
            let key = hash((&row.call_id, row.fields.vobiz_id));
            match self.shown.get(&key).copied() {
                None => {
                    self.shown.insert(key, FirstShown { content, page: self.pages, in_parts });
                    self.sums = &self.sums + &of(row);
                    add_stated(&mut self.stated, row);
                    self.currencies.extend(row.fields.currency.clone());
                }
                // The parts of a refused page may lie across its ends.
                Some(before) if in_parts || before.in_parts && before.content == content => {}
                Some(before) if before.content == content && before.page != self.pages => {
                    self.across.insert(row.call_id.to_string());
                }
                Some(before) => {
                    let mut states = StatedSums::default();
                    add_stated(&mut states, row);
                    self.repeated.push(RepeatedRow {
                        call_id: row.call_id.to_string(),
                        same: before.content == content,
                        currency: row.fields.currency.clone().unwrap_or_default(),
                        adds: of(row),
                        states,
                    });
                }
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
        self.of_pages = page.pages.max(self.of_pages);
    }

    /// Rows that it says it has.
    pub(super) fn promised(&self) -> i64 {
        self.total.max(self.last.as_ref().and_then(|summary| summary.calls)).unwrap_or(0)
    }

    /// Pages that it says it has; they may be shorter than was asked for.
    pub(super) fn promised_pages(&self) -> i64 {
        let rows = self.promised();
        self.of_pages.unwrap_or(0).min(rows).max(rows / i64::from(PER_PAGE))
    }

    /// Says that it was read to its end: whether that is all. A list that changed meanwhile is another matter.
    pub(super) fn end(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        let rows = shown.len() + self.repeated.len() + self.unreadable.len() + self.lost;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        if self.holes > 0 {
            let holes = self.holes;
            self.broken =
                Some(format!("{holes} of its {} rows are on pages that show nothing", self.promised()));
            return;
        }
        if self.first != self.last {
            return;
        }
        if !self.across.is_empty() {
            self.broken = Some(on_rows_across_pages(&self.across));
        } else if rows < self.promised() {
            self.broken = Some(format!("it ends after {rows} of {} rows", self.promised()));
        }
    }

    /// Says that no more of it is read, although this is not its end.
    pub(super) fn break_off(&mut self) {
        self.shown = HashMap::new();
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
        if !self.unreadable.is_empty() || self.lost > 0 || self.repeated.iter().any(|row| !row.same) {
            return true;
        }
        // Rows that are repeated: a summary may count them or not.
        let with_repeated = self.repeated.iter().fold(self.sums.clone(), |sums, row| &sums + &row.adds);
        let mut states_repeated = self.stated.clone();
        for row in &self.repeated {
            add_sums(&mut states_repeated, &row.states);
        }
        [(&self.sums, &self.stated), (&with_repeated, &states_repeated)]
            .into_iter()
            .any(|(sums, stated)| self.are_summed_by(said, sums, stated))
    }

    fn are_summed_by(&self, said: &Summary, sums: &SideTotals, stated: &StatedSums) -> bool {
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
        counts && money
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vobiz::{HomeCountry, Single, decode_single};

    /// A page of another account's records, each with these seconds.
    fn page(calls: std::ops::Range<u32>, seconds: &str) -> StoredPage {
        let row = |n| {
            let text = format!("{{\"uuid\":\"call-{n}\",\"duration\":{seconds},\"billsec\":{seconds}}}");
            match decode_single(text.as_bytes(), HomeCountry::INDIA) {
                Ok(Single::Cdr(cdr)) => *cdr,
                other => panic!("{other:?}"),
            }
        };
        let mut page = StoredPage::default();
        page.foreign = calls.map(row).collect();
        page
    }

    #[test]
    fn rows_that_were_shown_are_not_remembered_when_their_list_is_read() {
        for ends in [true, false] {
            let mut read = PartRead::default();
            read.add(&page(0..100, "30"));
            read.add(&page(100..200, "30"));
            assert_eq!(read.shown.len(), 200);
            if ends {
                read.end();
            } else {
                read.break_off();
            }
            assert_eq!((read.shown.capacity(), read.sums.calls), (0, 200), "ends: {ends}");
        }
    }

    #[test]
    fn a_part_adds_up_with_its_repeated_rows_as_they_state_their_seconds() {
        let numbers = ["42.5", "-1589286045", "43"];
        for (seconds, twice) in numbers.into_iter().zip(["85", "-3178572090", "86"]) {
            let mut read = PartRead::default();
            let mut shown = page(0..1, seconds);
            shown.foreign.extend(page(0..1, seconds).foreign);
            read.add(&shown);
            let said = |calls, seconds: &str| {
                let seconds: Option<Numeric> = seconds.parse().ok();
                Some(Summary {
                    calls: Some(calls),
                    duration_seconds: seconds.clone(),
                    billable_seconds: seconds,
                    total_cost: None,
                    text: String::new(),
                })
            };
            for (says, adds_up) in [((1, seconds), true), ((2, twice), true), ((2, "84"), false)] {
                read.last = said(says.0, says.1);
                assert_eq!(read.adds_up(), adds_up, "{says:?}");
            }
        }
    }
}
