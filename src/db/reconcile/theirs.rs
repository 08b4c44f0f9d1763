//! What another's list says: the names of its values, one row of it, and how near its amounts must come to ours. Pure: who only reads such
//! a list needs no database.

use crate::vobiz::{Moment, Numeric};

/// The values that are compared, as we name them.
pub const FIELDS: [&str; 6] = ["duration", "billsec", "cost", "streaming_cost", "total_cost", "currency"];

/// These, and whose call it is: in the order of [`ReconcileDifference::here`](super::ReconcileDifference::here).
pub const SIDES: [&str; 7] = [FIELDS[0], FIELDS[1], FIELDS[2], FIELDS[3], FIELDS[4], FIELDS[5], "account_id"];

/// Those of [`FIELDS`] that are numbers.
pub const NUMBERS: &[&str] = FIELDS.split_at(5).0;
/// Those of them that are seconds.
pub const SECONDS: &[&str] = NUMBERS.split_at(2).0;
/// Those of them that are amounts of money.
pub const AMOUNTS: &[&str] = NUMBERS.split_at(2).1;

/// One row of theirs. A number that it leaves blank where others say it is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TheirCall {
    /// Where it stands: the line of the file, or the number of the row.
    pub line: i64,
    /// The call, as they name it.
    pub call_id: Option<String>,
    /// The number of the record, where they say it: several records may have one uuid.
    pub record_id: Option<String>,
    /// The account that owns it.
    pub account_id: Option<String>,
    /// Who called.
    pub from_number: Option<String>,
    /// Who was called.
    pub to_number: Option<String>,
    /// When it began.
    pub called_at: Option<Moment>,
    /// Seconds, ringing and talking together.
    pub duration: Option<Numeric>,
    /// Seconds talked.
    pub billsec: Option<Numeric>,
    /// Cost of the leg, in `currency`.
    pub cost: Option<Numeric>,
    /// Cost of streaming, in `currency`.
    pub streaming_cost: Option<Numeric>,
    /// Both together, in `currency`.
    pub total_cost: Option<Numeric>,
    /// Currency of the costs.
    pub currency: Option<String>,
    /// Why the row could not be read, where it could not.
    pub unreadable: Option<String>,
}

impl TheirCall {
    /// What it says of each of [`NUMBERS`].
    pub fn numbers(&self) -> [&Option<Numeric>; NUMBERS.len()] {
        [&self.duration, &self.billsec, &self.cost, &self.streaming_cost, &self.total_cost]
    }
}

/// What a row of a table can say, in the order in which its columns are named and read.
pub const COLUMNS: [&str; 11] = [
    "call_id",
    "account_id",
    "from",
    "to",
    "started_at",
    "duration",
    "billsec",
    "cost",
    "streaming_cost",
    "total_cost",
    "currency",
];

/// How near two amounts must be to be the same: exactly, unless something is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closeness {
    /// They are rounded to so many decimals first, a half away from zero.
    pub decimals: Option<u8>,
    /// Then they may be so far apart.
    pub tolerance: Option<Numeric>,
}
