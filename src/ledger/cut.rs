//! A day whose list cannot be read as a whole: it has more pages than are read of one list, it ends before it has shown what it says it
//! has, or pages in it show nothing. It is cut by the filters of the list until each part is short and whole.
//!
//! A cut is proved, not trusted: a list may not know a filter, calls may have no value under it, or one that nobody has seen. So the
//! parts' summaries must add up to that of the whole, each part's rows to its own, and in the end all rows to the day's, which is asked for
//! once more. Only documented filters are used; the list takes whole days, no hours.

use std::fmt::Write as _;

use chrono::NaiveDate;
use tracing::{info, warn};

use super::check::{COMPARE_TIMEOUT, DayCheck};
use super::day_list::{DayList, PartWalk};
use super::part::PartRead;
use crate::db::base::work_lease::fenced;
use crate::db::ledger::filter_value::{self, MOST_VALUES};
use crate::db::ledger::{CheckCause, refused, uncut};
use crate::list::{ListError, ListTally, in_time, within};
use crate::vobiz::{FetchError, ListFilter, Numeric, Summary};

/// The filters of the list, in the order in which a day is cut by them. The last two take part of a number: each whole number of ours is a
/// part of its own.
const FILTERS: [&str; 6] =
    ["call_direction", "hangup_cause", "context", "hangup_disposition", "from_number", "to_number"];
/// A cut that does not come to its end within so many requests, and so many times the pages of the day, is no cut.
const MOST_REQUESTS: (u32, u32) = (200, 4);

impl<'a> DayCheck<'a> {
    /// Reads a day in parts whose list is broken. Where that brings no whole either, the list stays what it was, and says so.
    pub(super) async fn cut(
        &mut self,
        day: NaiveDate,
        whole: PartRead,
        list: &mut DayList,
    ) -> Result<PartRead, ListError> {
        let account = self.reader.account.id();
        let why = whole.broken.clone().unwrap_or_default();
        let lately = match self.due.cause {
            // A person who asks for this day wants to know.
            CheckCause::Manual => None,
            _ => in_time(uncut::lately(self.connection, account, day)).await?,
        };
        let failed = if let Some(failed) = lately {
            failed
        } else {
            info!(%account, %day, why, "the list of this day is not whole: it is read in parts");
            match self.read_parts(day, &whole, list).await? {
                Ok(parts) => {
                    self.note(day, None).await?;
                    info!(%account, %day, why, "the parts of the day are whole");
                    return Ok(parts);
                }
                Err(uncut) => {
                    let lasts = match uncut.kind {
                        UncutKind::Failed => false,
                        UncutKind::NoSum => self.is_still(day, &whole, list).await?,
                        UncutKind::Spent => true,
                    };
                    if lasts {
                        self.note(day, Some(&uncut.why)).await?;
                    }
                    uncut.why
                }
            }
        };
        let words = format!("the list of {day} is not whole: {why}; nor is it in parts: {failed}");
        warn!(%account, "{words}");
        let mut whole = whole;
        whole.refused.push(words);
        Ok(whole)
    }

    /// Notes why no cut of the day is to be tried for a while.
    pub(super) async fn note(&mut self, day: NaiveDate, why: Option<&str>) -> Result<(), ListError> {
        let account = self.reader.account.id();
        in_time(fenced!(self.lease, self.connection, |transaction| uncut::note(
            transaction,
            account,
            day,
            why
        )))
        .await
    }

    /// Whether the day says of itself what it said before it was cut. Parts of one that changes meanwhile may not add up for just that.
    async fn is_still(
        &mut self,
        day: NaiveDate,
        whole: &PartRead,
        list: &mut DayList,
    ) -> Result<bool, ListError> {
        let mut again = self.begin_part(day, Vec::new());
        match self.read_page(&mut again, list).await {
            Ok(()) => Ok(again.read.last == whole.last),
            Err(ListError::List(_) | ListError::Odd(_) | ListError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All parts of a day, together; or, in words, which of them is not whole.
    async fn read_parts(
        &mut self,
        day: NaiveDate,
        whole: &PartRead,
        list: &mut DayList,
    ) -> Result<Result<PartRead, Uncut>, ListError> {
        let Some(summary) = whole.last.clone() else { return Ok(Err(Uncut::no_sum("it has no summary"))) };
        let pages = u32::try_from(whole.promised_pages()).unwrap_or(u32::MAX);
        let most = MOST_REQUESTS.0.saturating_add(pages.saturating_mul(MOST_REQUESTS.1));
        let limit = RequestLimit { most, until: self.reader.tally.requests().saturating_add(most) };
        let mut together = PartRead::default();
        let (mut broken, mut not_whole) = (vec![(Vec::new(), summary)], vec![format!("day {day}")]);
        while let Some((filters, summary)) = broken.pop() {
            let parts = match self.split(day, &filters, &summary, limit, list).await? {
                Ok(parts) => parts,
                Err(failed) => return Ok(Err(failed)),
            };
            for part in parts {
                let (filters, name) = (part.filters.clone(), part.walk.name().to_owned());
                let mut read = self.read_on(part, list, Some(limit)).await?;
                if read.broken.is_some() && limit.is_spent(self.reader.tally) {
                    return Ok(Err(Uncut::spent(limit)));
                }
                if read.broken.is_none() && !read.adds_up() {
                    read.broken = Some("its rows do not add up to its own summary".into());
                }
                match (read.broken.is_some(), read.last.clone()) {
                    (false, _) => together.join(read),
                    (true, Some(summary)) => {
                        broken.push((filters, summary));
                        not_whole.push(name);
                    }
                    (true, None) => {
                        return Ok(Err(Uncut::no_sum(format!("{} has no summary", named(&filters)))));
                    }
                }
            }
        }
        // What the day says of itself now: if that is something else, it changed while its parts were read.
        let mut again = self.begin_part(day, Vec::new());
        self.read_page(&mut again, list).await?;
        together.first = whole.first.clone();
        together.last = again.read.last;
        together.total = again.read.total.or(whole.total);
        // What was refused of these is not missing any more.
        let account = self.reader.account.id();
        in_time(refused::forget_lists(self.connection, account, &not_whole)).await?;
        Ok(Ok(together))
    }

    /// Splits a part by the first filter that leaves parts which add up to it; their first pages are read. In words where no filter does,
    /// or Vobiz fails on one: that is no word about the filter.
    async fn split(
        &mut self,
        day: NaiveDate,
        filters: &[ListFilter],
        summary: &Summary,
        limit: RequestLimit,
        list: &mut DayList,
    ) -> Result<Result<Vec<PartWalk<'a>>, Uncut>, ListError> {
        for parameter in FILTERS {
            if filters.iter().any(|filter| filter.parameter() == parameter) {
                continue;
            }
            let account = self.reader.account.id();
            let values =
                within(COMPARE_TIMEOUT, filter_value::known(self.connection, account, day, parameter))
                    .await?;
            if values.len() < 2 || values.len() > MOST_VALUES {
                continue;
            }
            let mut parts = Vec::new();
            for (place, value) in (1..).zip(values) {
                if limit.is_spent(self.reader.tally) {
                    return Ok(Err(Uncut::spent(limit)));
                }
                let filters = [filters, &[ListFilter::new(parameter, value, place)]].concat();
                let mut part = self.begin_part(day, filters.clone());
                match self.read_page(&mut part, list).await {
                    Ok(()) => parts.push(part),
                    // The list does not know the filter, or shows nothing of this part.
                    Err(ListError::Odd(_) | ListError::Refused { .. }) => break,
                    Err(ListError::List(error)) if is_refusal(&error) => break,
                    // Its whole list was asked for as well, and came.
                    Err(ListError::List(error @ FetchError::Unavailable(_))) => {
                        let why = format!("{} cannot be read: {}", named(&filters), error.brief());
                        return Ok(Err(Uncut { why, kind: UncutKind::Failed }));
                    }
                    Err(error) => return Err(error),
                }
                if !less(parts.iter(), summary) {
                    break;
                }
            }
            parts.retain(|part| part.read.promised() > 0);
            if parts.len() > 1 && add_up(parts.iter(), summary) {
                return Ok(Ok(parts));
            }
        }
        Ok(Err(Uncut::no_sum(format!("no filter cuts {} into parts that add up to it", named(filters)))))
    }
}

/// Why a day could not be cut.
#[derive(Debug)]
struct Uncut {
    why: String,
    kind: UncutKind,
}

#[derive(Debug, Clone, Copy)]
enum UncutKind {
    /// No parts add up to the whole.
    NoSum,
    /// It would take more requests than a cut may.
    Spent,
    /// Vobiz failed: the next try may fare better.
    Failed,
}

impl Uncut {
    fn no_sum(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: UncutKind::NoSum }
    }

    fn spent(limit: RequestLimit) -> Self {
        Self { why: limit.to_string(), kind: UncutKind::Spent }
    }
}

/// So many requests, up to this count of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLimit {
    most: u32,
    until: u32,
}

impl RequestLimit {
    pub(super) fn is_spent(self, tally: &ListTally) -> bool {
        tally.requests() > self.until
    }
}

impl std::fmt::Display for RequestLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after {} requests it still is not", self.most)
    }
}

/// Whether Vobiz answered, and not with this list: it may not know the filter.
fn is_refusal(error: &FetchError) -> bool {
    match error {
        FetchError::Refused(_) | FetchError::NotYet(_) | FetchError::Unreadable { .. } => true,
        FetchError::Throttled { .. } | FetchError::Unavailable(_) | FetchError::Denied(_) => false,
    }
}

fn named(filters: &[ListFilter]) -> String {
    if filters.is_empty() {
        return "the day".into();
    }
    filters.iter().enumerate().fold("the part by ".to_owned(), |mut words, (n, filter)| {
        let _ = write!(words, "{}{filter}", if n == 0 { "" } else { ", " });
        words
    })
}

/// Whether the parts so far are no more than the whole: a list that does not know a filter shows all for each value.
fn less<'p>(mut parts: impl Iterator<Item = &'p PartWalk<'p>>, whole: &Summary) -> bool {
    let calls = parts.try_fold(0_i64, |calls, part| Some(calls + part.read.last.as_ref()?.calls?));
    calls.is_some_and(|calls| whole.calls.is_some_and(|whole| calls <= whole))
}

/// Whether the summaries of parts add up to that of the whole.
fn add_up<'p>(parts: impl Iterator<Item = &'p PartWalk<'p>>, whole: &Summary) -> bool {
    let summaries: Option<Vec<&Summary>> = parts.map(|part| part.read.last.as_ref()).collect();
    summaries.is_some_and(|summaries| sums_equal(&summaries, whole))
}

fn sums_equal(parts: &[&Summary], whole: &Summary) -> bool {
    let calls = parts.iter().try_fold(0_i64, |sum, part| Some(sum + part.calls?));
    let seconds = |of: fn(&Summary) -> Option<&Numeric>| {
        parts.iter().try_fold(Numeric::default(), |sum, part| Some(&sum + of(part)?)).as_ref() == of(whole)
    };
    let counts = calls == whole.calls
        && seconds(|part| part.duration_seconds.as_ref())
        && seconds(|part| part.billable_seconds.as_ref());
    counts && whole.calls.is_some() && money_equals(parts, whole.total_cost.as_ref())
}

/// Each figure was rounded by itself, so they add up to no more than as many halves of their last decimal.
fn money_equals(parts: &[&Summary], whole: Option<&Numeric>) -> bool {
    /// More decimals are what a binary sum leaves over.
    const DECIMALS: usize = 6;
    /// A zero at the end is not printed: 21 says 21.00.
    const PAISA: usize = 2;
    let Some(whole) = whole else { return true };
    let Some(costs) = parts.iter().map(|part| part.total_cost.as_ref()).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let sum = costs.iter().fold(Numeric::default(), |sum, cost| &sum + cost);
    let slack = costs.iter().copied().chain([whole]).fold(Numeric::default(), |slack, cost| {
        let half = format!("0.{}5", "0".repeat(cost.scale().clamp(PAISA, DECIMALS)));
        &slack + &half.parse().unwrap_or_default()
    });
    sum.minus(whole).abs() <= slack
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(calls: i64, seconds: i64, cost: &str) -> Summary {
        Summary {
            calls: Some(calls),
            duration_seconds: seconds.to_string().parse().ok(),
            billable_seconds: seconds.to_string().parse().ok(),
            total_cost: cost.parse().ok(),
            text: String::new(),
        }
    }

    #[test]
    fn parts_add_up_to_the_whole_as_far_as_their_figures_are_printed() {
        let whole = summary(30, 900, "12.35");
        for (parts, equal) in [
            ([summary(10, 300, "4.12"), summary(20, 600, "8.23")], true),
            // Each was rounded up, the whole down.
            ([summary(10, 300, "4.13"), summary(20, 600, "8.23")], true),
            ([summary(10, 300, "4.1200000000000001"), summary(20, 600, "8.23")], true),
            ([summary(10, 300, "4.15"), summary(20, 600, "8.23")], false),
            ([summary(10, 300, "4.12"), summary(19, 600, "8.23")], false),
            ([summary(10, 301, "4.12"), summary(20, 600, "8.23")], false),
            // A filter that is not known shows all of it each time.
            ([whole.clone(), whole.clone()], false),
        ] {
            assert_eq!(sums_equal(&parts.each_ref(), &whole), equal, "{parts:?}");
        }
        let nothing = Summary { calls: None, ..summary(0, 0, "0") };
        assert!(!sums_equal(&[&nothing, &nothing], &nothing));
    }
}
