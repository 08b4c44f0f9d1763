//! The list of a day, and of the days beside it, as a check reads them: stored, noted for the comparison, and asked how Vobiz cuts its
//! days.

use chrono::NaiveDate;
use tracing::info;

use super::check::{COMPARE_TIMEOUT, DayCheck};
use super::cut::RequestLimit;
use super::part::PartRead;
use super::zone;
use crate::db::base::work_lease::fenced;
use crate::db::ledger::bound::{self, InferredZone};
use crate::db::ledger::compare::{self, DaySpan};
use crate::db::ledger::listed;
use crate::list::{Found, ListError, ListWalk, in_time, within};
use crate::vobiz::{Cdr, ListFilter};

/// The list of a day as it was read.
#[derive(Debug, Default)]
pub(super) struct DayList {
    /// All that was found, in its parts and in the lists of the days beside it, too.
    pub(super) found: Found,
    /// What it showed, in one piece or in parts.
    pub(super) read: PartRead,
    /// It shows calls of accounts that no list of this one had shown.
    pub(super) new_owners: bool,
    /// Rows that lie in no zone's version of the day.
    pub(super) outside: i64,
    /// Pages of the days beside it that Vobiz refused and of which rows are lost, and which of these lists are not whole, in words.
    pub(super) refused_beside: Vec<String>,
    /// The lists of the days beside it were read.
    pub(super) beside: bool,
}

/// The list of a day, or what filters let through of it, while it is read.
#[derive(Debug)]
pub(super) struct PartWalk<'a> {
    pub(super) filters: Vec<ListFilter>,
    pub(super) read: PartRead,
    pub(super) walk: ListWalk<'a>,
    day: NaiveDate,
    /// No page follows.
    ended: bool,
}

impl<'a> DayCheck<'a> {
    /// Reads the list of a day: stores its rows, and notes them for the comparison. Where it cannot be read as a whole, in parts.
    pub(super) async fn read_list(&mut self, day: NaiveDate) -> Result<DayList, ListError> {
        let mut list = self.read_as_a_whole(day).await?;
        if list.read.broken.is_some() {
            let whole = std::mem::take(&mut list.read);
            list.read = Box::pin(self.cut(day, whole, &mut list)).await?;
        } else {
            self.note(day, None).await?;
        }
        Ok(list)
    }

    async fn read_as_a_whole(&mut self, day: NaiveDate) -> Result<DayList, ListError> {
        let mut list = DayList::default();
        let mut whole = self.begin_part(day, Vec::new());
        self.read_page(&mut whole, &mut list).await?;
        list.read = self.read_on(whole, &mut list, None).await?;
        Ok(list)
    }

    pub(super) fn begin_part(&self, day: NaiveDate, filters: Vec<ListFilter>) -> PartWalk<'a> {
        let walk =
            ListWalk::new(self.reader, &format!("day {day}"), Some((day, day))).filtered(filters.clone());
        PartWalk { filters, read: PartRead::default(), walk, day, ended: false }
    }

    /// Reads the next page of a part.
    pub(super) async fn read_page(
        &mut self,
        part: &mut PartWalk<'a>,
        list: &mut DayList,
    ) -> Result<(), ListError> {
        let account = self.reader.account.id();
        let mut page = part.walk.next(None).await?;
        let rows: Vec<&Cdr> = page.ours.iter().map(|row| &row.cdr).chain(&page.foreign).collect();
        let day = part.day;
        let note = fenced!(self.lease, self.connection, |transaction| listed::note(
            transaction,
            account,
            day,
            &rows
        ));
        list.new_owners |= in_time(note).await?;
        list.found.add(page.found);
        part.read.add(&page);
        let contradicted = &self.contradicted;
        let rows = page.ours.drain(..).filter(|row| contradicted.contains(row.cdr.call_id.as_str()));
        part.read.contradicting.extend(rows);
        part.ended = page.is_last;
        let most = self.reader.most_pages;
        if page.pages.is_some_and(|pages| pages > i64::from(most)) {
            part.read.broken = Some(ListError::Endless(most).to_string());
        }
        Ok(())
    }

    /// Reads the rest of a part, with no more requests than this. What keeps it from being read to its end, or shows that this is not all
    /// of it, is said in its outcome.
    pub(super) async fn read_on(
        &mut self,
        mut part: PartWalk<'a>,
        list: &mut DayList,
        limit: Option<RequestLimit>,
    ) -> Result<PartRead, ListError> {
        while !part.ended && part.read.broken.is_none() {
            if let Some(limit) = limit.filter(|limit| limit.is_spent(self.reader.tally)) {
                part.read.broken = Some(limit.to_string());
                break;
            }
            match self.read_page(&mut part, list).await {
                Ok(()) => {}
                Err(error @ (ListError::Odd(_) | ListError::Endless(_) | ListError::Refused { .. })) => {
                    part.read.broken = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if part.ended {
            part.read.end();
            part.walk.end().await?;
        } else {
            part.read.break_off();
        }
        Ok(part.read)
    }

    /// Calls of ours that the list lacks: it may have put them into the day before or after, so these are read, too.
    pub(super) async fn read_beside(
        &mut self,
        list: &mut DayList,
        zone: &InferredZone,
    ) -> Result<(), ListError> {
        if list.beside || self.unlisted(zone).await? == 0 {
            return Ok(());
        }
        let neighbours = self.read_neighbours(list).await?;
        self.learn(&neighbours).await?;
        Ok(())
    }

    /// Reads the lists of the days beside, and returns which these are. One that is not whole is not read in parts: its own check does that.
    async fn read_neighbours(&mut self, list: &mut DayList) -> Result<Vec<NaiveDate>, ListError> {
        let day = self.due.day;
        let neighbours: Vec<NaiveDate> = [day.pred_opt(), day.succ_opt()].into_iter().flatten().collect();
        for neighbour in &neighbours {
            let its = self.read_as_a_whole(*neighbour).await?;
            list.beside = true;
            list.refused_beside.extend(its.read.refused);
            let broken = its.read.broken.map(|why| format!("the list of {neighbour} is not whole: {why}"));
            list.refused_beside.extend(broken);
            list.new_owners |= its.new_owners;
        }
        Ok(neighbours)
    }

    /// How many calls of the day that its list ought to show were not listed.
    pub(super) async fn unlisted(&mut self, zone: &InferredZone) -> Result<i64, ListError> {
        let (account, day) = (self.reader.account.id(), self.due.day);
        within(COMPARE_TIMEOUT, async {
            let (from, to) = bound::span(&mut *self.connection, account, day).await?;
            let span = DaySpan { account, day, day_of: &zone.day_of, from, to };
            compare::unlisted(self.connection, &span).await
        })
        .await
    }

    /// Infers from the list of the day how Vobiz cuts its days. Rows that do not lie in the day as it is thought to lie are believed only
    /// together with the lists of the days beside it: what two lists show says nothing of the cut.
    pub(super) async fn infer_zone(&mut self, list: &mut DayList) -> Result<InferredZone, ListError> {
        let (account, day) = (self.reader.account.id(), self.due.day);
        let strays = within(COMPARE_TIMEOUT, listed::strays(&mut *self.connection, account, day)).await?;
        let neighbours = if strays > 0 { self.read_neighbours(list).await? } else { Vec::new() };
        let (zone, outside) = self.learn(&neighbours).await?;
        list.outside = outside;
        Ok(zone)
    }

    /// Infers from all lists that were read, of the day and of those beside it, and writes down what is left in the end: days that move
    /// are reopened, so nothing is tried. Also returns how many rows of the day's list lie in no zone's version of it.
    async fn learn(&mut self, beside: &[NaiveDate]) -> Result<(InferredZone, i64), ListError> {
        let (account, day) = (self.reader.account.id(), self.due.day);
        let infer = fenced!(self.lease, self.connection, |transaction| async {
            let before = bound::inferred(&mut *transaction, account, day).await?;
            let mut lists = Vec::new();
            for day in std::iter::once(day).chain(beside.iter().copied()) {
                lists.push((day, listed::extremes(&mut *transaction, account, day).await?));
            }
            let twice = listed::twice(&mut *transaction, account, day).await? > 0;
            let inferred = zone::infer(&before, &lists, twice);
            if inferred != before {
                bound::write_down(transaction, account, &inferred).await?;
            }
            Ok::<_, sqlx::Error>((before, inferred, lists[0].1.outside))
        });
        let (before, inferred, outside) = within(COMPARE_TIMEOUT, infer).await?;
        if (&before.day_of, before.offset) != (&inferred.day_of, inferred.offset) {
            let zone = inferred.offset.map_or_else(|| "the billing zone".into(), zone::east);
            info!(%account, by = inferred.day_of, zone, "the lists say how Vobiz cuts its days");
        }
        Ok((inferred, outside))
    }
}
