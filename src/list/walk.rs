//! A list, page by page, also past a page that Vobiz refuses while others come: a record that its own API cannot print must not hide
//! those behind it. Such a page is asked for again in parts, so that only the row itself is lost, and what is lost is written down.

use chrono::{DateTime, NaiveDate, Utc};
use tracing::{info, warn};

use super::reader::{DB_TIMEOUT, ListReader, MOST_PAGES, PER_PAGE, StoredPage, TRIES};
use super::{ListError, in_parts};
use crate::db::ledger::refused::{self, RefusedPage};
use crate::db::timed;
use crate::vobiz::{CallId, FetchError, ListQuery};

/// Rows of a part of a page.
const PART: u32 = 10;
/// So many pages in a row of which nothing can be read are the end: it is not a row then.
const LOST_IN_A_ROW: u32 = 3;

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct ListWalk<'a> {
    reader: ListReader<'a>,
    /// `sweep`, `drain` or `day YYYY-MM-DD`: under which name its refused pages are written down.
    name: String,
    days: Option<(NaiveDate, NaiveDate)>,
    /// The last page that was asked for.
    number: u32,
    before: Vec<CallId>,
    /// Rows of the whole list, as it says.
    total: Option<i64>,
    lost_in_a_row: u32,
    /// When its first page was asked for.
    began: Option<DateTime<Utc>>,
}

impl<'a> ListWalk<'a> {
    /// The list of some days, or of all.
    pub(crate) fn new(reader: ListReader<'a>, name: &str, days: Option<(NaiveDate, NaiveDate)>) -> Self {
        let (before, total, began) = (Vec::new(), None, None);
        Self { reader, name: name.to_owned(), days, number: 0, before, total, lost_in_a_row: 0, began }
    }

    /// Reads the next page and stores it. `reserved_to` is the reservation under which the reader looks for calls.
    pub(crate) async fn next(&mut self, reserved_to: Option<DateTime<Utc>>) -> Result<StoredPage, ListError> {
        if self.number == MOST_PAGES {
            return Err(ListError::Endless);
        }
        self.number += 1;
        let page = match self.reader.read(&self.query(self.number, PER_PAGE), reserved_to, TRIES).await {
            Ok(page) => {
                self.lost_in_a_row = 0;
                page
            }
            Err(ListError::List(error)) if in_parts(&error) => self.read_in_parts(error, reserved_to).await?,
            Err(error) => return Err(error),
        };
        if !page.call_ids.is_empty() && page.call_ids == self.before {
            return Err(ListError::Odd("the same page came twice"));
        }
        self.before.clone_from(&page.call_ids);
        self.total = page.total.or(self.total);
        self.began = self.began.or(page.requested_at);
        Ok(page)
    }

    /// The list was read as far as was wanted: what was refused before and came now is forgotten.
    pub(crate) async fn end(self) -> Result<(), ListError> {
        let account = self.reader.account.id();
        let Some(began) = self.began else { return Ok(()) };
        let ended = timed!(self.reader.pool, DB_TIMEOUT, |connection| refused::forget(
            connection, account, &self.name, began
        ));
        Ok(ended.await?)
    }

    fn query(&self, page: u32, per_page: u32) -> ListQuery {
        ListQuery { page, per_page, days: self.days, ..ListQuery::default() }
    }

    /// A page that was refused, from its parts: ten rows each, and where one of these is refused, too, row by row.
    async fn read_in_parts(
        &mut self,
        error: FetchError,
        reserved_to: Option<DateTime<Utc>>,
    ) -> Result<StoredPage, ListError> {
        let mut whole = StoredPage::default();
        let (mut lost, mut prints) = (Vec::new(), false);
        for part in Self::places(PER_PAGE / PART, self.number) {
            match self.read_part(part, PART, reserved_to, 1).await? {
                Some(page) => whole.add(page),
                None => lost.push(part),
            }
            if whole.is_last {
                break;
            }
            if self.number == 1 && lost.len() == 2 && whole.parts == 0 {
                for row in 1..=2 {
                    prints |= self.read_part(row, 1, reserved_to, 1).await?.is_some();
                }
                if !prints {
                    // It is no row of the page: nothing can be read of this list.
                    self.reader.account.list_refused().await;
                    let paused = self.reader.account.is_paused().await?;
                    return Err(if paused { ListError::Paused } else { error.into() });
                }
            }
        }
        let in_rows = if prints || whole.parts > 0 { lost } else { Vec::new() };
        for part in in_rows {
            for row in Self::places(PART, part) {
                let Some(page) = self.read_part(row, 1, reserved_to, 2).await? else {
                    whole.rows_lost += 1;
                    continue;
                };
                let ends = page.is_last;
                whole.add(page);
                if ends {
                    break;
                }
            }
        }
        self.complete(whole, &error).await
    }

    /// Sees how much of a page its parts have shown, and writes down what of it is lost.
    async fn complete(&mut self, mut page: StoredPage, error: &FetchError) -> Result<StoredPage, ListError> {
        let total = page.total.or(self.total);
        // Rows of this page, as far as the list says how many it has.
        let expected = total.map(|total| {
            let before = i64::from((self.number - 1) * PER_PAGE);
            usize::try_from((total - before).clamp(0, PER_PAGE.into())).unwrap_or(0)
        });
        if page.parts == 0 {
            page.rows_lost = expected.unwrap_or(PER_PAGE as usize);
        }
        page.rows_lost = page.rows_lost.max(expected.unwrap_or(0).saturating_sub(page.found.rows));
        page.pages = total.map(|total| (total + i64::from(PER_PAGE) - 1) / i64::from(PER_PAGE));
        // An empty part says nothing where the list promises more.
        page.is_last = match page.pages {
            Some(pages) => i64::from(self.number) >= pages,
            None => page.is_last,
        };
        let of = page.pages.map_or_else(String::new, |pages| format!(" of {pages}"));
        let lost = match page.rows_lost {
            0 => "all of its rows were read by smaller pages".to_owned(),
            n if page.parts == 0 => format!("none of its {n} rows could be read by smaller pages either"),
            1 => "1 of its rows could not be read by smaller pages either".to_owned(),
            n => format!("{n} of its rows could not be read by smaller pages either"),
        };
        let words = format!(
            "page {}{of} of the list ({}) cannot be read ({}): {lost}",
            self.number,
            self.name,
            error.brief()
        );
        let (account, number) = (self.reader.account.id(), self.number);
        if page.rows_lost > 0 {
            warn!(%account, "{words}");
        } else {
            info!(%account, "{words}");
        }
        let rows_lost = i32::try_from(page.rows_lost).unwrap_or(i32::MAX);
        let noted = RefusedPage { list: &self.name, page: number, rows_lost, words: &words };
        timed!(self.reader.pool, DB_TIMEOUT, |connection| refused::note(connection, account, &noted)).await?;
        self.lost_in_a_row = if page.parts == 0 { self.lost_in_a_row + 1 } else { 0 };
        if self.lost_in_a_row == LOST_IN_A_ROW {
            return Err(ListError::Refused { page: number + 1 - LOST_IN_A_ROW, said: error.brief() });
        }
        page.refused = Some(words);
        Ok(page)
    }

    /// Reads a part of a page; none if it is refused as well, or is no such part.
    async fn read_part(
        &self,
        page: u32,
        rows: u32,
        reserved_to: Option<DateTime<Utc>>,
        tries: u32,
    ) -> Result<Option<StoredPage>, ListError> {
        match self.reader.read(&self.query(page, rows), reserved_to, tries).await {
            // Vobiz may not care how many rows a page is to have; then it is another place of the list.
            Ok(read)
                if read.found.rows > rows as usize
                    || read.per_page.is_some_and(|per_page| per_page != i64::from(rows)) =>
            {
                Ok(None)
            }
            Ok(read) => Ok(Some(read)),
            Err(ListError::List(error)) if in_parts(&error) => Ok(None),
            Err(ListError::Odd(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The numbers of the parts into which the `page`th page of another size falls.
    fn places(parts: u32, page: u32) -> std::ops::RangeInclusive<u32> {
        (page - 1) * parts + 1..=page * parts
    }
}
