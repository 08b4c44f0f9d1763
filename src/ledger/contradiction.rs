//! Where lists say something else of a call than we hold, again and again, the list wins: a version that claims to be newer than it is
//! must not keep out what Vobiz says now.

use sqlx::Connection;
use tracing::warn;

use super::check::{COMPARE_TIMEOUT, DayCheck};
use super::day_list::DayList;
use crate::db::base::retry::on_conflict;
use crate::db::cdr::{Incoming, overrule};
use crate::db::ledger::bound;
use crate::db::ledger::compare::{self, DaySpan};
use crate::db::ledger::contradiction;
use crate::list::{ListError, within};

impl DayCheck<'_> {
    /// Lets the list win over the versions of those calls that it contradicts as the lists of the two checks before did.
    pub(super) async fn let_the_list_win(&mut self, list: &mut DayList) -> Result<(), ListError> {
        if list.read.contradicting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut list.read.contradicting);
        let won = on_conflict!(within(COMPARE_TIMEOUT, self.overrule(&rows))).await?;
        let account = self.reader.account.id();
        for call_id in &won {
            warn!(%account, call_id, "lists contradicted the stored version on three checks running: the list wins");
        }
        list.found.revised += won.len();
        Ok(())
    }

    async fn overrule(&mut self, rows: &[Incoming]) -> Result<Vec<String>, sqlx::Error> {
        let (account, day) = (self.reader.account.id(), self.due.day);
        let mut transaction = self.connection.begin().await?;
        let connection = &mut *transaction;
        self.lease.fence(connection).await?;
        let zone = bound::inferred(connection, account, day).await?;
        let (from, to) = bound::span(connection, account, day).await?;
        let span = DaySpan { account, day, day_of: &zone.day_of, from, to };
        let now = compare::differences(connection, &span).await?;
        let stubborn = contradiction::stubborn(connection, account, day, &now.first).await?;
        let rows = overrule::keyed(connection, rows).await?;
        let rows: Vec<&Incoming> =
            rows.iter().filter(|row| stubborn.contains(row.cdr.call_id.as_str())).collect();
        let won = overrule::by_list(connection, &rows).await?;
        transaction.commit().await?;
        Ok(won)
    }
}
