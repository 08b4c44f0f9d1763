//! What can be wrong with another's list, in words that say what to do.

use super::decimal::UnclearNumber;
use crate::db::reconcile::TableError;

/// What is wrong with what we were given: the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// The file cannot be read.
    #[error("the file cannot be opened or read")]
    Io(#[from] std::io::Error),
    /// The same, by the reader of CSV.
    #[error("the file cannot be read")]
    Csv(#[from] ::csv::Error),
    /// Something else than CSV.
    #[error("the file is {0}")]
    OtherFile(&'static str),
    /// Not an export of calls.
    #[error("no column is named uuid or call_id, so no row can be recognised; the header line has: {0}")]
    NoIdColumn(String),
    /// Which one counts?
    #[error("the header line has {0} twice: take one of the columns out")]
    TwiceThere(String),
    /// Nothing that we can compare.
    #[error(
        "the column {0:?} has a unit that is not compared: amounts are compared in a currency such as (INR) or in (paise), durations in (s) or (ms), \
         times in (UTC) or (IST); head it so, convert it, or take the column out"
    )]
    OtherUnit(String),
    /// Two days, and nobody knows which.
    #[error(
        "line {line}, column {column}: {text} may be either of two days: say --dates dmy (the day first) or --dates mdy (the month first)"
    )]
    AmbiguousDate {
        /// Where it stands.
        line: i64,
        /// Its column.
        column: String,
        /// What it says.
        text: String,
    },
    /// A thousand times as much or not, and nobody knows.
    #[error(
        "line {}, column {}: {} may be either of two numbers, and no other number of the file says what stands before the decimals: say \
         --decimal . or --decimal ,",
        .0.line, .0.column, .0.text
    )]
    AmbiguousNumber(UnclearNumber),
    /// The map does not do.
    #[error("the map: {0}")]
    Map(String),
    /// The table does not do.
    #[error(transparent)]
    Table(TableError),
    /// Postgres knows no such zone.
    #[error("{0} is no time zone that Postgres knows: write one such as Asia/Kolkata")]
    Zone(String),
    /// Nothing says which of our calls should be there.
    #[error(
        "no row says when its call began, so nobody knows which calls should be there: give --from and --to"
    )]
    NoTimes,
}
