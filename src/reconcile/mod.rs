//! Our calls beside another's list of them: the provider's export, or a table that the owner has already. Their list is read
//! a few thousand rows at a time into temporary tables, where Postgres compares; nothing is stored, healed or changed.
//!
//! What lives here: reading their rows, and what is compared with what. What does not: the comparison itself (`db::reconcile`).

mod cell;
mod csv;
mod date;
mod decimal;
mod header;
mod heading;
mod map;
mod quotes;
mod row;
mod text;
mod total;
mod wrong;

use std::io::BufRead;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

pub use cell::Spelling;
pub use csv::{Export, FileFacts, NotRead};
pub use date::DateOrder;
pub use decimal::{DecimalMark, UnclearNumber};
pub use map::Map;
pub use total::{TotalRow, TotalRows};
pub use wrong::Wrong;

use crate::db::reconcile::{
    self, Closeness, CompareScope, Counts, FIELDS, InstantRange, ReconcileTotal, TableError,
};
use crate::vobiz::AccountId;

/// Rows loaded in one statement.
const BATCH: usize = 2000;
/// So many calls are named in a note; of one more it is only said that there are more.
const NAMED: i64 = 20;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It cannot be made like this.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl From<TableError> for ReconcileError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Sql(error) => Self::Sql(error),
            error => Self::Wrong(Wrong::Table(error)),
        }
    }
}

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct ReconcileRequest {
    /// Days of the billing zone, both included; without them, from their first call to their last.
    pub days: Option<(NaiveDate, NaiveDate)>,
    /// Only the calls of this account; without it, those of all accounts that they name, or all.
    pub account: Option<AccountId>,
    /// Zone of times without one, in a file; without it, the one that the headings name, or the billing zone.
    pub zone: Option<String>,
    /// How values are written, in a file.
    pub spelling: Spelling,
    /// How near amounts must be to be the same.
    pub closeness: Closeness,
}

/// A comparison; its differences are read by [`reconcile::differences`] on the same connection.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Whether both sides say the same: never, where neither was asked for days nor theirs has a row, because nothing proves
    /// nothing; nor where a row of totals contradicts the rows above it, or a column is blank of which we have values.
    pub equal: bool,
    /// Rows of theirs, of whatever days.
    pub rows: i64,
    /// The first instant that was compared.
    pub from: Option<DateTime<Utc>>,
    /// The first instant that was not.
    pub until: Option<DateTime<Utc>>,
    /// The accounts that were compared; None means all.
    pub accounts: Option<Vec<String>>,
    /// Which values they have a column for that says something.
    pub compared: Vec<&'static str>,
    /// Which they have a column for that every row of theirs leaves blank. Where we have such values, nothing is equal.
    pub not_compared: Vec<&'static str>,
    /// How many calls came out how.
    pub counts: Counts,
    /// Calls that they charge more than once, by id; the first of them.
    pub charged_twice: Vec<String>,
    /// The sums, by currency.
    pub totals: Vec<ReconcileTotal>,
    /// What the file was, where it was one.
    pub file: Option<FileFacts>,
}

/// Compares with an export.
pub async fn with_csv(
    connection: &mut PgConnection,
    input: impl BufRead,
    request: &ReconcileRequest,
) -> Result<Comparison, ReconcileError> {
    let here = reconcile::here(connection).await?;
    let mut export = Export::open(input, request.spelling, request.closeness.clone(), here.now)?;
    let in_file = export.as_ref().and_then(|export| export.zone()).map(str::to_owned);
    let (zone, by) = match (&request.zone, in_file) {
        (Some(zone), _) => (zone.clone(), "--zone"),
        (None, Some(zone)) => (zone, "the heading"),
        (None, None) => (here.billing_zone, "the billing zone"),
    };
    check_zone(connection, &zone).await?;
    reconcile::prepare(connection).await?;
    let mut compared = Vec::new();
    let mut has_currency = false;
    if let Some(export) = &mut export {
        compared = FIELDS.into_iter().filter(|field| export.has(field)).collect();
        has_currency = export.has_currency();
        loop {
            let calls = export.read(BATCH)?;
            if calls.is_empty() {
                break;
            }
            // A sign at an amount says its currency, too.
            if !compared.contains(&"currency") && calls.iter().any(|call| call.currency.is_some()) {
                compared.push("currency");
            }
            reconcile::load(connection, &calls, &zone).await?;
        }
    }
    // Before minutes of comparing numbers that may be other ones.
    let facts = export.map(Export::facts).transpose()?;
    let mut transaction = connection.begin_with(READ_ONLY).await?;
    reconcile::read_at_length(&mut transaction).await?;
    let range = asked_range(&mut transaction, request).await?;
    let columns = ComparedColumns { compared, has_currency };
    let mut comparison = finish(&mut transaction, request, range, None, columns).await?;
    transaction.commit().await?;
    if let Some(mut facts) = facts {
        facts.zone = (facts.zoneless > 0).then_some((zone, by));
        comparison.equal &= facts.totals.wrong == 0;
        comparison.file = Some(facts);
    }
    Ok(comparison)
}

/// The columns of theirs that are compared.
struct ComparedColumns {
    compared: Vec<&'static str>,
    has_currency: bool,
}

/// Compares with a table `schema.table` of the same database, in one snapshot of both; times without a zone are taken in the
/// zone of the map.
pub async fn with_table(
    connection: &mut PgConnection,
    table: &str,
    map: &Map,
    request: &ReconcileRequest,
) -> Result<Comparison, ReconcileError> {
    check_zone(connection, &map.zone).await?;
    let now = reconcile::here(connection).await?.now;
    reconcile::prepare(connection).await?;
    let mut transaction = connection.begin_with(READ_ONLY).await?;
    reconcile::read_at_length(&mut transaction).await?;
    let range = asked_range(&mut transaction, request).await?;
    reconcile::open(&mut transaction, table, &map.columns, range, &map.zone).await?;
    let mut line = 0;
    loop {
        let rows = reconcile::fetch(&mut transaction).await?;
        if rows.is_empty() {
            break;
        }
        let calls = rows.iter().zip(line + 1..).map(|(row, line)| row::of_table(line, row, now));
        let calls = calls.collect::<Result<Vec<_>, _>>()?;
        line += i64::try_from(calls.len()).unwrap_or_default();
        reconcile::load(&mut transaction, &calls, &map.zone).await?;
    }
    let compared = FIELDS.into_iter().filter(|field| map.has(field)).collect();
    let columns = ComparedColumns { compared, has_currency: map.has("currency") };
    let comparison = finish(&mut transaction, request, range, Some(map.matching), columns).await?;
    transaction.commit().await?;
    Ok(comparison)
}

/// One snapshot, and a promise that Postgres keeps: only temporary tables can be written.
const READ_ONLY: &str = "begin isolation level repeatable read read only";

async fn check_zone(connection: &mut PgConnection, zone: &str) -> Result<(), ReconcileError> {
    if reconcile::knows_zone(connection, zone).await? {
        return Ok(());
    }
    Err(Wrong::Zone(zone.to_owned()).into())
}

async fn asked_range(
    connection: &mut PgConnection,
    request: &ReconcileRequest,
) -> Result<Option<InstantRange>, sqlx::Error> {
    match request.days {
        Some((first, last)) => reconcile::days(connection, first, last).await.map(Some),
        None => Ok(None),
    }
}

/// Compares what was loaded.
async fn finish(
    connection: &mut PgConnection,
    request: &ReconcileRequest,
    range: Option<InstantRange>,
    matching: Option<reconcile::Matching>,
    columns: ComparedColumns,
) -> Result<Comparison, ReconcileError> {
    let span = reconcile::span(connection).await?;
    let is_blank = |field: &&'static str| span.rows > 0 && span.blank.iter().any(|blank| blank == field);
    let (blank, compared): (Vec<_>, Vec<_>) = columns.compared.into_iter().partition(is_blank);
    let accounts = match &request.account {
        Some(account) => Some(vec![account.as_str().to_owned()]),
        None => Some(span.accounts).filter(|named| !named.is_empty()),
    };
    // Until before the next microsecond: the last call is inside.
    let theirs = span.first.zip(span.last);
    let theirs =
        theirs.map(|(from, last)| InstantRange { from, until: last + chrono::TimeDelta::microseconds(1) });
    let is_theirs = range.is_none();
    let range = range.or(theirs);
    if range.is_none() && span.rows > 0 && !reconcile::all_unreadable(connection).await? {
        return Err(Wrong::NoTimes.into());
    }
    // Without any time there is no call of ours to compare with, but unreadable rows are still to be said.
    let nothing = InstantRange { from: DateTime::UNIX_EPOCH, until: DateTime::UNIX_EPOCH };
    let scope = CompareScope {
        range: range.unwrap_or(nothing),
        accounts,
        is_theirs,
        closeness: request.closeness.clone(),
        has_currency: columns.has_currency && !blank.contains(&"currency"),
        compared,
    };
    reconcile::pair(connection, &scope, matching).await?;
    let counts = reconcile::counts(connection).await?;
    let charged_twice = reconcile::charged_twice(connection, NAMED + 1).await?;
    let totals = reconcile::totals(connection).await?;
    let zero = |sum: &Option<String>| sum.as_deref().is_none_or(|sum| sum == "0");
    let unproven = blank.iter().any(|field| {
        totals.iter().any(|total| {
            if *field == "currency" {
                total.currency.is_some()
            } else {
                total.what == *field && !zero(&total.here)
            }
        })
    });
    Ok(Comparison {
        // Nothing equals nothing: rows that were all left out prove nothing either.
        equal: counts.differences() == 0
            && !unproven
            && (span.rows > 0 || request.days.is_some())
            && !(span.rows > 0 && counts.calls_here == 0 && counts.calls_there == 0),
        rows: span.rows,
        from: range.map(|range| range.from),
        until: range.map(|range| range.until),
        accounts: scope.accounts,
        compared: scope.compared,
        not_compared: blank,
        counts,
        charged_twice,
        totals,
        file: None,
    })
}
