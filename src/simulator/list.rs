//! Lists of CDRs: filters, paging and the summary, as `…/cdr`, `…/search` and `…/recent` give them. Promise: rows,
//! `total` and `summary` of one answer speak of the same set of calls, newest first by end and id, and the sums are
//! exact.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::cdr;
use super::options::{DayOf, ListFaults, SimulatorOptions, SummaryRule};
use super::world::Row;

/// The query parameters of a list, decoded.
pub(super) type Query<'a> = [(Cow<'a, str>, Cow<'a, str>)];

pub(super) fn parameter<'a>(query: &'a Query<'_>, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_ref())
}

/// The filters that compare a text.
const TEXTS: [&str; 11] = [
    "from_number",
    "to_number",
    "call_direction",
    "sip_call_id",
    "bridge_uuid",
    "hangup_cause",
    "hangup_disposition",
    "context",
    "campaign_id",
    "search",
    "status",
];

/// Which calls a list is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filter {
    texts: Vec<(&'static str, String)>,
    min_duration: Option<u64>,
    max_duration: Option<u64>,
    /// From the first instant of the first day up to, and without, the first instant after the last.
    days: Option<(DateTime<Utc>, DateTime<Utc>)>,
    day_of: DayOf,
}

impl Filter {
    /// Reads the filters; a date that is none is the 422 body to answer.
    pub(super) fn read(
        query: &Query<'_>,
        options: &SimulatorOptions,
        now: DateTime<Utc>,
    ) -> Result<Self, String> {
        let today = (now + TimeDelta::minutes(options.day_zone.into())).date_naive();
        let kept_since = options.keeps_days.map(|days| today - chrono::Days::new(days));
        let texts = TEXTS
            .iter()
            .filter(|name| options.lists.ignores_filter.as_deref() != Some(**name))
            .filter_map(|name| parameter(query, name).map(|value| (*name, value.to_owned())))
            .collect();
        let number = |name| parameter(query, name).and_then(|value| value.parse().ok());
        let date = |name: &str| match parameter(query, name) {
            None => Ok(None),
            Some(text) => match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
                Ok(date) if kept_since.is_none_or(|first| first <= date) => Ok(Some(date)),
                _ => Err(unprocessable(name, text)),
            },
        };
        let midnight = |date: NaiveDate| {
            date.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::minutes(options.day_zone.into())
        };
        // A single date is ignored, as documented.
        let days = match (date("start_date")?, date("end_date")?) {
            (Some(first), Some(last)) => {
                Some((midnight(first), midnight(last.succ_opt().unwrap_or(NaiveDate::MAX))))
            }
            _ => None,
        };
        Ok(Self {
            texts,
            min_duration: number("min_duration"),
            max_duration: number("max_duration"),
            days,
            day_of: options.day_of,
        })
    }

    fn shows(&self, row: &Row) -> bool {
        let call = &row.call;
        let in_days = self.days.is_none_or(|(from, until)| {
            let (first, last) = match self.day_of {
                DayOf::Start => (call.started_at, call.started_at),
                DayOf::End => (call.ended_at, call.ended_at),
                DayOf::Either => (call.started_at, call.ended_at),
            };
            from <= last && first < until
        });
        in_days
            && self.min_duration.is_none_or(|least| call.duration() >= least)
            && self.max_duration.is_none_or(|most| call.duration() <= most)
            && self.texts.iter().all(|(name, wanted)| match *name {
                "from_number" => call.from.contains(wanted.as_str()),
                "to_number" => call.to.contains(wanted.as_str()),
                "call_direction" => call.direction.as_str() == wanted,
                "sip_call_id" => call.sip_call_id == *wanted,
                "bridge_uuid" => call.bridge_uuid.as_ref() == Some(wanted),
                "hangup_cause" => call.hangup_cause == *wanted,
                "hangup_disposition" => call.hangup_disposition == *wanted,
                "context" => call.kind.context() == wanted,
                "search" => [&call.from, &call.to, &call.caller_name, &call.call_id]
                    .iter()
                    .any(|t| t.contains(wanted)),
                "status" => status_is(row, wanted),
                // No simulated call belongs to a campaign.
                _ => false,
            })
    }
}

fn status_is(row: &Row, wanted: &str) -> bool {
    let status = match &*row.call.hangup_cause {
        _ if row.call.answered_at.is_some() => "answered",
        "USER_BUSY" => "busy",
        "NO_ANSWER" | "ORIGINATOR_CANCEL" => "no_answer",
        _ => "failed",
    };
    // Both spellings are documented.
    status == wanted.replace('-', "_")
}

fn unprocessable(field: &str, value: &str) -> String {
    let mut shown = Vec::new();
    cdr::text(&mut shown, value);
    format!(
        r#"{{"status":"error","error":{{"code":"VALIDATION_ERROR","message":"Validation failed","details":{{"errors":[{{"field":"{field}","message":"must be YYYY-MM-DD","code":"invalid_format","value":{}}}]}}}},"timestamp":"2026-03-25T10:00:00Z","requestId":"req_2b3c4d5e6f70"}}"#,
        String::from_utf8_lossy(&shown)
    )
}

/// The totals of a list.
#[derive(Clone, Debug, Default)]
struct ListSummary {
    answered: u64,
    talked: u64,
    billable: Decimal,
    lasted: Decimal,
    cost: Decimal,
    decimals: Option<u32>,
    last_call_at: Option<DateTime<Utc>>,
}

/// The outcome of one filter at one moment.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    filter: Filter,
    /// Rows that this filter will show once they appear.
    awaited: Vec<Arc<Row>>,
    /// Oldest first: what is new mostly belongs at the end.
    rows: Vec<Arc<Row>>,
    summary: ListSummary,
}

/// By what lists are sorted.
fn key(row: &Row) -> (DateTime<Utc>, u64) {
    (row.call.ended_at, row.call.vobiz_id)
}

impl Listing {
    /// Takes a row in, now or when it appears.
    fn add(&mut self, row: &Arc<Row>, now: DateTime<Utc>, sums: SummaryRule) {
        if !row.visible(now) {
            if row.appears_at.is_some() {
                self.awaited.push(Arc::clone(row));
            }
            return;
        }
        let call = &row.call;
        let summary = &mut self.summary;
        summary.answered += u64::from(call.billsec > 0);
        summary.talked += u64::from(call.billsec);
        summary.billable += sums.seconds(call, "billsec", call.billsec.into());
        summary.lasted += sums.seconds(call, "duration", call.duration());
        summary.decimals = sums.decimals;
        summary.cost += sums.of(call);
        let place = self.rows.partition_point(|other| key(other) < key(row));
        self.rows.insert(place, Arc::clone(row));
        summary.last_call_at = self.rows.last().map(|newest| newest.call.started_at);
    }

    /// Takes in what has appeared.
    fn catch_up(&mut self, now: DateTime<Utc>, sums: SummaryRule) {
        let (appeared, awaited): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.awaited).into_iter().partition(|row| row.visible(now));
        self.awaited = awaited;
        for row in appeared {
            self.add(&row, now, sums);
        }
    }

    fn awaits(&self, now: DateTime<Utc>) -> bool {
        self.awaited.iter().any(|row| row.visible(now))
    }
}

/// The rows that one account's lists show.
#[derive(Debug, Default)]
pub(super) struct Book {
    rows: BTreeMap<(DateTime<Utc>, u64), Arc<Row>>,
    /// Listings that were asked for lately, kept up to date: reading thousands of pages must not add everything up for each
    /// of them, and calls go on meanwhile.
    known: Vec<Arc<Listing>>,
}

impl Book {
    pub(super) fn replace(
        &mut self,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
        now: DateTime<Utc>,
        sums: SummaryRule,
    ) {
        if let Some(old) = old {
            self.rows.remove(&key(old));
            self.known.clear();
        }
        if let Some(new) = new {
            self.rows.insert(key(new), Arc::clone(new));
            for listing in self.known.iter_mut().filter(|listing| listing.filter.shows(new)) {
                Arc::make_mut(listing).add(new, now, sums);
            }
        }
    }

    pub(super) fn listing(&mut self, filter: Filter, now: DateTime<Utc>, sums: SummaryRule) -> Arc<Listing> {
        if let Some(known) = self.known.iter_mut().find(|listing| listing.filter == filter) {
            if known.awaits(now) {
                Arc::make_mut(known).catch_up(now, sums);
            }
            return Arc::clone(known);
        }
        let mut listing =
            Listing { filter, awaited: Vec::new(), rows: Vec::new(), summary: ListSummary::default() };
        for row in self.rows.values() {
            if listing.filter.shows(row) {
                listing.add(row, now, sums);
            }
        }
        let listing = Arc::new(listing);
        // A few filters in turn are a sweep; more would only hold memory.
        if self.known.len() >= 8 {
            self.known.remove(0);
        }
        self.known.push(Arc::clone(&listing));
        listing
    }
}

/// The envelope around a list.
pub(super) struct ListEnvelope<'a> {
    pub(super) account: &'a str,
    pub(super) partner: bool,
    /// `filters` of a search: its four echoed parameters.
    pub(super) echo: Option<&'a Query<'a>>,
    /// `page`, from 1.
    pub(super) number: usize,
    /// `per_page`, or the limit of `recent`.
    pub(super) size: usize,
    /// `recent` has neither pagination nor summary.
    pub(super) bare: bool,
    /// See [`SimulatorOptions::denies_next`].
    pub(super) denies_next: bool,
    pub(super) faults: &'a ListFaults,
}

impl ListEnvelope<'_> {
    /// Whether the page lies beyond those that are shown, or shows a row that this Vobiz cannot print.
    pub(super) fn is_refused(&self, listing: &Listing) -> bool {
        let beyond = self.faults.most_pages.is_some_and(|most| self.number > most);
        beyond || self.rows(listing).iter().any(|row| row.call.unprintable)
    }

    /// Rows of the list, as it counts them.
    fn total(&self, listing: &Listing) -> usize {
        let repeated = usize::from(self.faults.repeats_newest && !listing.rows.is_empty());
        listing.rows.len() + repeated
    }

    /// Its rows, newest first.
    fn rows<'l>(&self, listing: &'l Listing) -> Vec<&'l Arc<Row>> {
        let total = self.total(listing);
        let before = (self.number - 1).saturating_mul(self.size).min(total);
        if self.faults.hole_at == Some(before / 100 + 1) {
            return Vec::new();
        }
        let end = before.saturating_add(self.size).min(self.faults.ends_after.unwrap_or(total)).min(total);
        let repeated = total - listing.rows.len();
        // Oldest first as they are kept.
        let at_seam =
            |place: usize| usize::from(self.faults.repeats_at_seams && place == before && place > 0);
        let row = |place: usize| listing.rows.len().checked_sub(1 + place.saturating_sub(repeated));
        (before..end).filter_map(|place| listing.rows.get(row(place - at_seam(place))?)).collect()
    }

    fn render_rows(&self, out: &mut Vec<u8>, rows: &[&Arc<Row>]) {
        for (n, row) in rows.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            if self.faults.doubles_cost_of_subs && row.call.account_id != self.account {
                let mut dearer = row.call.clone();
                dearer.cost += row.call.cost;
                cdr::row(out, &dearer);
            } else {
                cdr::row(out, &row.call);
            }
        }
    }

    pub(super) fn render(&self, listing: &Listing) -> Vec<u8> {
        let (total, rows) = (self.total(listing), self.rows(listing));
        let mut out = Vec::with_capacity(1024 + rows.len() * 1400);
        out.push(b'{');
        if self.partner {
            out.extend_from_slice(br#""account_auth_id":"#);
            cdr::text(&mut out, self.account);
            out.push(b',');
        }
        out.extend_from_slice(br#""account_id":"#);
        cdr::text(&mut out, self.account);
        cdr::print(&mut out, format_args!(r#","count":{},"data":["#, rows.len()));
        if let Some((count, json)) = self.faults.elements {
            (0..count).for_each(|n| {
                let lead = if n == 0 { "" } else { "," };
                match json {
                    Some(json) => cdr::print(&mut out, format_args!("{lead}{json}")),
                    None => cdr::print(&mut out, format_args!("{lead}{n}")),
                }
            });
        } else {
            self.render_rows(&mut out, &rows);
        }
        out.push(b']');
        if let Some(query) = self.echo {
            for (n, name) in ["call_direction", "from_number", "hangup_cause", "to_number"].iter().enumerate()
            {
                let lead = if n == 0 { r#","filters":{"# } else { "," };
                cdr::print(&mut out, format_args!(r#"{lead}"{name}":"#));
                cdr::text(&mut out, parameter(query, name).unwrap_or(""));
            }
            out.push(b'}');
        }
        if !self.bare {
            let pages = total.div_ceil(self.size).max(usize::from(self.faults.page_of_nothing));
            cdr::print(
                &mut out,
                format_args!(
                    r#","pagination":{{"page":{},"per_page":{},"total":{total},"pages":{pages},"has_next":{},"has_prev":{}}}"#,
                    self.number,
                    self.faults.claims_per_page.unwrap_or(self.size),
                    self.number < pages && !self.denies_next,
                    self.number > 1 && pages > 0,
                ),
            );
        }
        out.extend_from_slice(br#","success":true"#);
        if !self.bare {
            listing.summary.render(&mut out, listing.rows.len() as u64);
        }
        out.push(b'}');
        out
    }
}

impl ListSummary {
    fn render(&self, out: &mut Vec<u8>, total: u64) {
        let rate = if total == 0 {
            Decimal::ZERO
        } else {
            (Decimal::from(self.answered * 100) / Decimal::from(total)).round_dp(1)
        };
        // The examples fit talk time over answered calls, and nothing else.
        let average = self.talked.checked_div(self.answered).unwrap_or(0);
        cdr::print(
            out,
            format_args!(
                r#","summary":{{"answerRate":{},"answeredCalls":{},"avgCallDuration":"{average}s","last_call_at":"#,
                rate.normalize(),
                self.answered,
            ),
        );
        match self.last_call_at {
            Some(at) => cdr::time(out, at),
            None => out.extend_from_slice(b"null"),
        }
        cdr::print(
            out,
            format_args!(
                r#","totalCalls":{total},"total_billable_seconds":{},"total_cost":{},"total_duration_seconds":{}}}"#,
                self.billable.normalize(),
                self.decimals.map_or(self.cost, |decimals| self.cost.round_dp(decimals)).normalize(),
                self.lasted.normalize(),
            ),
        );
    }
}
