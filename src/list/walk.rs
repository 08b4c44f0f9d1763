//! A list, page by page, also past a page that Vobiz refuses, or shows empty, while others come: a record that its own API cannot print
//! must not hide those behind it. Such a page is asked for again in parts, so that only the row itself is lost, and what is lost is
//! written down.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tracing::{info, warn};

use super::page::StoredPage;
use super::reader::{DB_TIMEOUT, ListReader, PER_PAGE, TRIES};
use super::{ListError, in_parts};
use crate::db::ledger::refused::{self, RefusedPage};
use crate::db::timed;
use crate::vobiz::{CallId, ListFilter, ListQuery, MOST_ROWS};

/// Rows of a part of a page.
const PART: u32 = 10;
/// So many pages in a row of which nothing can be read are the end: it is not a row then.
const LOST_IN_A_ROW: u32 = 3;
/// Days begin so far east of UTC at most.
const EAST: TimeDelta = TimeDelta::hours(14);

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct ListWalk<'a> {
    reader: ListReader<'a>,
    /// `sweep`, `drain` or `day YYYY-MM-DD` with its filters: under which name its refused pages are written down.
    name: String,
    days: Option<(NaiveDate, NaiveDate)>,
    filters: Vec<ListFilter>,
    /// The last page that was asked for.
    number: u32,
    before: Vec<CallId>,
    /// Rows of the whole list, and its pages, as it says.
    total: Option<i64>,
    pages: Option<i64>,
    /// Rows that a full page really has, which may be fewer than were asked for.
    size: Option<u32>,
    /// The most rows that a page had.
    most_rows: u32,
    lost_in_a_row: u32,
    /// Refused pages behind which no page was read yet.
    open: Vec<u32>,
    /// When its first page was asked for.
    began: Option<DateTime<Utc>>,
    /// The oldest instant that was read.
    oldest: Option<DateTime<Utc>>,
    /// Its last page was read.
    ended: bool,
}

impl<'a> ListWalk<'a> {
    /// The list of some days, or of all.
    pub(crate) fn new(reader: ListReader<'a>, name: &str, days: Option<(NaiveDate, NaiveDate)>) -> Self {
        Self {
            reader,
            name: name.to_owned(),
            days,
            filters: Vec::new(),
            number: 0,
            before: Vec::new(),
            total: None,
            pages: None,
            size: None,
            most_rows: 0,
            lost_in_a_row: 0,
            open: Vec::new(),
            began: None,
            oldest: None,
            ended: false,
        }
    }

    /// The name under which its refused pages are written down.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same, of the calls that these filters let through.
    pub(crate) fn filtered(mut self, filters: Vec<ListFilter>) -> Self {
        self.name = filters.iter().fold(self.name, |name, filter| format!("{name}, {filter}"));
        self.filters = filters;
        self
    }

    /// Reads the next page and stores it. `reserved_to` is the reservation under which the reader looks for calls.
    pub(crate) async fn next(&mut self, reserved_to: Option<DateTime<Utc>>) -> Result<StoredPage, ListError> {
        if self.number == self.reader.most_pages {
            return Err(ListError::Endless(self.number));
        }
        self.number += 1;
        let query = self.query(self.number, PER_PAGE);
        let mut read = self.reader.read(&query, reserved_to, TRIES).await;
        if matches!(read, Err(ListError::Odd(_))) {
            // It may have been a bad moment.
            read = self.reader.read(&query, reserved_to, TRIES).await;
        }
        let page = match read {
            Ok(page) => self.whole(page),
            Err(ListError::List(error)) if !in_parts(&error) => return Err(error.into()),
            Err(error @ (ListError::List(_) | ListError::Odd(_))) => {
                self.read_in_parts(error, reserved_to).await?
            }
            Err(error) => return Err(error),
        };
        if !page.call_ids.is_empty() && page.call_ids == self.before {
            return Err(ListError::Odd("the same page came twice"));
        }
        self.before.clone_from(&page.call_ids);
        self.total = page.total.or(self.total);
        self.began = self.began.or(page.requested_at);
        self.oldest = [self.oldest, page.oldest].into_iter().flatten().min();
        self.ended = page.is_last;
        if page.refused.is_none() && !self.open.is_empty() {
            self.bound(&page).await?;
        }
        Ok(page)
    }

    /// The list was read as far as was wanted: what was refused before and came now is forgotten.
    pub(crate) async fn end(self) -> Result<(), ListError> {
        let account = self.reader.account.id();
        let Some(began) = self.began else { return Ok(()) };
        let reached = self.oldest.filter(|_| !self.ended);
        let ended = timed!(self.reader.pool, DB_TIMEOUT, |connection| refused::forget(
            connection, account, &self.name, began, reached
        ));
        Ok(ended.await?)
    }

    fn query(&self, page: u32, per_page: u32) -> ListQuery {
        ListQuery { page, per_page, days: self.days, filters: self.filters.clone(), sip_call_id: None }
    }

    /// A page that came. Vobiz may give fewer rows than were asked for, and then count its pages as if it gave them all: as long as
    /// its own total says that there are more, it is not the last.
    fn whole(&mut self, mut page: StoredPage) -> StoredPage {
        self.lost_in_a_row = 0;
        self.pages = page.pages.or(self.pages);
        let rows = u32::try_from(page.found.rows).unwrap_or(PER_PAGE);
        let sizes = rows..=u32::try_from(MOST_ROWS).unwrap_or(PER_PAGE);
        let said =
            page.per_page.and_then(|said| u32::try_from(said).ok()).filter(|said| sizes.contains(said));
        self.size = match (self.most_rows, rows) {
            // What a page has behind which there are others is what pages have, whatever they say.
            (1.., 1..) => Some(self.most_rows.max(rows)),
            (_, 0) => self.size,
            (0, rows) => said.or(Some(rows)),
        };
        self.most_rows = self.most_rows.max(rows);
        let shown = i64::from(self.number) * i64::from(self.size());
        page.is_last &= rows == 0 || page.total.is_none_or(|total| shown >= total);
        page
    }

    fn size(&self) -> u32 {
        self.size.unwrap_or(PER_PAGE)
    }

    /// A page that was refused, from its parts: ten rows each, and where one of these is refused, too, row by row.
    async fn read_in_parts(
        &mut self,
        error: ListError,
        reserved_to: Option<DateTime<Utc>>,
    ) -> Result<StoredPage, ListError> {
        let mut whole = StoredPage::default();
        let from = (self.number - 1) * self.size();
        let end = self.total.and_then(|total| u32::try_from(total).ok()).unwrap_or(u32::MAX);
        let to = (from + self.size()).min(end.max(from + 1));
        // Where a page is no longer than a part, a part is a row.
        let length = if self.size() > PART { PART } else { 1 };
        let (mut lost, mut prints) = (Vec::new(), false);
        for part in from / length..to.div_ceil(length) {
            match self.read_part(part + 1, length, reserved_to, 1).await? {
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
                    return self.nothing_comes(error).await;
                }
            }
        }
        if length == 1 {
            whole.rows_lost = lost.len();
        } else if prints || whole.parts > 0 {
            let rows = lost.into_iter().flat_map(|part| part * length..(part + 1) * length);
            for row in rows.filter(|row| (from..to).contains(row)) {
                let Some(page) = self.read_part(row + 1, 1, reserved_to, 2).await? else {
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

    /// It is no row of the first page: nothing can be read of this list.
    async fn nothing_comes(&self, error: ListError) -> Result<StoredPage, ListError> {
        if matches!(error, ListError::List(_)) {
            self.reader.account.list_refused().await;
        }
        let paused = self.reader.account.is_paused().await?;
        Err(if paused { ListError::Paused } else { error })
    }

    /// Sees how much of a page its parts have shown, and writes down what of it is lost.
    async fn complete(&mut self, mut page: StoredPage, error: &ListError) -> Result<StoredPage, ListError> {
        let (total, size) = (page.total.or(self.total), self.size());
        // Rows of this page, as far as the list says how many it has.
        let expected = total.map(|total| {
            let before = i64::from(self.number - 1) * i64::from(size);
            usize::try_from(total.saturating_sub(before).clamp(0, size.into())).unwrap_or(0)
        });
        if page.parts == 0 {
            page.rows_lost = expected.unwrap_or(size as usize);
        } else if size.is_multiple_of(PART) {
            // Parts that lie across the ends of the page show others' rows as well.
            page.rows_lost = page.rows_lost.max(expected.unwrap_or(0).saturating_sub(page.found.rows));
        } else {
            page.rows_lost = page.rows_lost.min(expected.unwrap_or(page.rows_lost));
        }
        let counted = total.map(|total| total.saturating_add(i64::from(size) - 1) / i64::from(size));
        page.pages = self.pages.max(counted);
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
        let said = match error {
            ListError::List(error) => error.brief(),
            _ => "it is empty".to_owned(),
        };
        let words =
            format!("page {}{of} of the list ({}) cannot be read ({said}): {lost}", self.number, self.name);
        let (account, number) = (self.reader.account.id(), self.number);
        if page.rows_lost > 0 {
            warn!(%account, "{words}");
        } else {
            info!(%account, "{words}");
        }
        let noted = RefusedPage {
            list: &self.name,
            page: number,
            rows_lost: i32::try_from(page.rows_lost).unwrap_or(i32::MAX),
            words: &words,
            oldest_at: self.days.map(|(first, _)| first.and_time(chrono::NaiveTime::MIN).and_utc() - EAST),
        };
        timed!(self.reader.pool, DB_TIMEOUT, |connection| refused::note(connection, account, &noted)).await?;
        self.open.push(number);
        page.refused = Some(words);
        self.lost_in_a_row = if page.parts == 0 && page.rows_lost > 0 { self.lost_in_a_row + 1 } else { 0 };
        if self.lost_in_a_row == LOST_IN_A_ROW {
            return Err(ListError::Refused { page: number + 1 - LOST_IN_A_ROW, said });
        }
        Ok(page)
    }

    /// What was refused before this page cannot tell of anything older than this page does.
    async fn bound(&mut self, page: &StoredPage) -> Result<(), ListError> {
        let Some(oldest) = page.oldest else { return Ok(()) };
        let (account, open) = (self.reader.account.id(), std::mem::take(&mut self.open));
        let bounded = timed!(self.reader.pool, DB_TIMEOUT, |connection| refused::bound(
            connection, account, &self.name, &open, oldest
        ));
        Ok(bounded.await?)
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
}
