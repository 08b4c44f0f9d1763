//! One page of CDRs: the rows, where the page stands, and the provider's own totals. A row that cannot be read is
//! reported beside the others and never spoils them, not even where it is no JSON: then the page is cut into its rows first.

use std::borrow::Cow;

use super::cdr::{self, Cdr, Unreadable};
use super::json::{self, Member};
use super::number::HomeCountry;
use super::value::Notes;
use super::{AccountId, CallId, Numeric, Payload, stated};

/// Rows of a page that are read: twice as many as Vobiz gives at most (documented), so that what an answer costs is known before it is
/// taken apart.
pub const MOST_ROWS: usize = 200;
/// Keys and values of a page at most: many times what so many rows have.
const MOST_PARTS: usize = 100_000;
/// Bytes that are read while the next row of a broken page is looked for: each try may read to the end of the page.
const MOST_READ: usize = 64 << 20;

/// A page of `…/cdr`, `…/cdr/search`, `…/cdr/recent` or a partner list. What the answer does not say is None (`recent`
/// has neither pagination nor summary, documented).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The rows in Vobiz's order, newest first (documented; by which column is unknown).
    pub rows: Vec<Result<Box<Cdr>, RowError>>,
    /// This page's number, from 1.
    pub page: Option<i64>,
    /// Rows per page, at most 100 (documented).
    pub per_page: Option<i64>,
    /// Rows on all pages.
    pub total: Option<i64>,
    /// Number of pages.
    pub pages: Option<i64>,
    /// Whether a page follows.
    pub has_next: Option<bool>,
    /// Totals over the filtered set, all pages.
    pub summary: Option<Summary>,
    /// The envelope's own word. With `false` an empty list says nothing.
    pub success: Option<bool>,
    /// The account whose list this is.
    pub account_id: Option<AccountId>,
}

/// A row that is no CDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {position}: {why}")]
pub struct RowError {
    /// Its place on the page, from 0.
    pub position: usize,
    /// What is wrong with it.
    pub why: Unreadable,
    /// The row as it came.
    pub payload: Payload,
    /// The call it is about, where a row that is no JSON shows that nonetheless: its single record may be whole.
    pub call_id: Option<CallId>,
}

impl RowError {
    /// What can be seen of its identity: the call, what stands where the call should be named, or the number of the record.
    pub fn shown_id(&self) -> Option<String> {
        if let Some(call_id) = &self.call_id {
            return Some(call_id.to_string());
        }
        match &self.why {
            Unreadable::BadUuid { value, .. } => Some(value.trim_matches('"').to_owned()),
            Unreadable::NoUuid => {
                let row = RawObject(json::members(self.payload.text()));
                row.read::<i64>("id").map(|number| format!("number {number}"))
            }
            _ => None,
        }
    }
}

/// Vobiz's totals for the filtered set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `totalCalls`.
    pub calls: Option<i64>,
    /// `total_duration_seconds`. Where rows state seconds that are no whole number, so may their sum be.
    pub duration_seconds: Option<Numeric>,
    /// `total_billable_seconds`.
    pub billable_seconds: Option<Numeric>,
    /// `total_cost`, with the decimals that were printed (its `scale()`).
    pub total_cost: Option<Numeric>,
    /// The summary as it came, all its keys.
    pub text: String,
}

/// Reads a page. An answer without a list in `data` is an error, so that nobody takes it for an empty list; `data: null`
/// is an empty list (inferred: Go writes an empty one like that). One that holds more than a page can is refused before any row is made.
pub fn decode_list(body: &[u8], home: HomeCountry) -> Result<ListPage, Unreadable> {
    let (text, replaced) = json::text_of(body);
    cdr::not_too_much(&text, MOST_PARTS)?;
    let error = match whole(&text, home, replaced) {
        Err(error @ (Unreadable::NotJson { .. } | Unreadable::CutShort)) => error,
        page => return page,
    };
    if let Some(text) = json::mended(&text)
        && let Ok(page) = whole(&text, home, replaced)
    {
        return Ok(page);
    }
    let Some((envelope, rows)) = cut(&text)? else { return Err(error) };
    let read = |(position, row): (usize, Cow<'_, str>)| {
        let (why, call_id) = match cdr::check(&row).map(|row| cdr::read(row, home, replaced)) {
            Ok(Ok(cdr)) => return Ok(Box::new(cdr)),
            Ok(Err(why)) => (why, None),
            Err(why) => (why, shown_id(&row)),
        };
        Err(RowError { position, why, payload: Payload::new(row), call_id })
    };
    Ok(page(&RawObject(json::members(&envelope)), rows.into_iter().enumerate().map(read).collect()))
}

/// Reads a page that is JSON.
fn whole(text: &str, home: HomeCountry, replaced: bool) -> Result<ListPage, Unreadable> {
    let answer = RawObject(cdr::object("the answer", cdr::check(text)?)?);
    let rows = match answer.get("data") {
        Some(data) if data.starts_with('[') => json::elements_up_to(data, MOST_ROWS).ok_or(TOO_MANY)?,
        Some("null") => Vec::new(),
        other => return Err(Unreadable::NoRows { found: other.map_or("missing", cdr::kind) }),
    };
    let read = |(position, row)| {
        let error = |why| RowError { position, why, payload: Payload::new(row), call_id: None };
        cdr::read(row, home, replaced).map(Box::new).map_err(error)
    };
    Ok(page(&answer, rows.into_iter().enumerate().map(read).collect()))
}

const TOO_MANY: Unreadable = Unreadable::TooMuch { what: "rows on a page", most: MOST_ROWS };

fn page(answer: &RawObject<'_>, rows: Vec<Result<Box<Cdr>, RowError>>) -> ListPage {
    let pagination = answer.object("pagination").map_or_else(RawObject::default, |(object, _)| object);
    let summary = answer.object("summary").map(|(summary, text)| Summary {
        calls: summary.read("totalCalls"),
        duration_seconds: summary.get("total_duration_seconds").and_then(stated::seconds),
        billable_seconds: summary.get("total_billable_seconds").and_then(stated::seconds),
        total_cost: summary.read("total_cost"),
        text: text.to_owned(),
    });
    ListPage {
        rows,
        page: pagination.read("page"),
        per_page: pagination.read("per_page"),
        total: pagination.read("total"),
        pages: pagination.read("pages"),
        has_next: pagination.read("has_next"),
        summary,
        success: answer.read("success"),
        account_id: answer.read::<String>("account_id").and_then(|id| AccountId::new(&id).ok()),
    }
}

/// The envelope of a page, and its rows.
type Cut<'a> = (String, Vec<Cow<'a, str>>);

/// Where the rows of a page begin.
fn begin_of_list(text: &str) -> Option<usize> {
    text.match_indices("\"data\"").find_map(|(at, key)| {
        let rest = text[at + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')?;
        Some(text.len() - rest.len())
    })
}

/// Cuts a page that is no JSON into its envelope, without rows, and its rows: each as it stands there, mended where that makes it
/// JSON, or broken. None if its end is not there (half a body) or cannot be found.
fn cut(text: &str) -> Result<Option<Cut<'_>>, Unreadable> {
    let Some(list) = begin_of_list(text) else { return Ok(None) };
    let envelope = |tail: &str| {
        let whole = [&text[..list], tail].concat();
        if cdr::check(&whole).is_ok() {
            Some(whole)
        } else {
            json::mended(&whole).filter(|whole| cdr::check(whole).is_ok())
        }
    };
    let (mut at, mut rows, mut read) = (list, Vec::new(), 0);
    loop {
        let rest = text[at..].trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        at = text.len() - rest.len();
        if let Some(envelope) = end_of_list(rest).and_then(&envelope) {
            return Ok(Some((envelope, rows)));
        }
        let next = row(rest).or_else(|| broken_row(rest, &envelope, &mut read));
        let Some((row, end)) = next else { return Ok(None) };
        if rows.len() == MOST_ROWS {
            return Err(TOO_MANY);
        }
        rows.push(row);
        at += end;
    }
}

/// The row at the beginning of a text, and where it ends, if it is JSON or can be mended.
fn row(rest: &str) -> Option<(Cow<'_, str>, usize)> {
    let ends = |end: usize| rest[end..].trim_ascii_start().starts_with([',', ']']);
    let whole = json::first_value(rest).filter(|row| ends(row.len()));
    whole.map(|row| (Cow::Borrowed(row), row.len())).or_else(|| {
        let row = json::first_part(rest)?;
        let mended = json::mended(row).filter(|row| cdr::check(row).is_ok() && row.starts_with('{'))?;
        ends(row.len()).then_some((Cow::Owned(mended), row.len()))
    })
}

/// A row that cannot be mended: up to the place where a row or the end of the page begins.
fn broken_row<'a>(
    rest: &'a str,
    envelope: &impl Fn(&str) -> Option<String>,
    read: &mut usize,
) -> Option<(Cow<'a, str>, usize)> {
    let (end, _) = rest.match_indices(['{', ']']).skip_while(|(at, _)| *at == 0).find(|(at, found)| {
        let from = &rest[*at..];
        if *found == "]" && end_of_list(from).is_none() {
            return false;
        }
        *read += from.len();
        if *read > MOST_READ {
            return false;
        }
        match *found {
            "]" => envelope(from).is_some(),
            // An object inside a row has no such key.
            _ => row(from)
                .is_some_and(|(row, _)| json::members(&row).iter().any(|member| member.key == "uuid")),
        }
    })?;
    let broken = rest[..end].trim_end_matches(|c: char| c.is_ascii_whitespace() || c == ',');
    Some((Cow::Borrowed(broken), end))
}

/// The text, if it begins with what may be the end of the list: a further member follows it in every answer of Vobiz's. Without one it
/// might be the end of a list in a row that half a body ends with.
fn end_of_list(text: &str) -> Option<&str> {
    let after = text.strip_prefix(']')?.trim_ascii_start().strip_prefix(',')?;
    after.trim_ascii_start().starts_with('"').then_some(text)
}

/// The id that a text shows under `uuid`, JSON or not.
fn shown_id(row: &str) -> Option<CallId> {
    row.match_indices("\"uuid\"").find_map(|(at, key)| {
        let rest = row[at + key.len()..]
            .trim_ascii_start()
            .strip_prefix(':')?
            .trim_ascii_start()
            .strip_prefix('"')?;
        CallId::new(&rest[..rest.find('"')?]).ok()
    })
}

#[derive(Default)]
struct RawObject<'a>(Vec<Member<'a>>);

impl<'a> RawObject<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|member| member.key == key).map(|member| member.value)
    }

    fn object(&self, key: &str) -> Option<(RawObject<'a>, &'a str)> {
        let text = self.get(key).filter(|value| value.starts_with('{'))?;
        Some((RawObject(json::members(text)), text))
    }

    /// What cannot be read is None: the envelope is a help, the rows are the matter.
    fn read<T: super::value::Read>(&self, key: &str) -> Option<T> {
        Notes::default().read(key, self.get(key)?)
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
