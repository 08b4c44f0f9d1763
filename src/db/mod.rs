//! What we keep: all our SQL. Nothing here knows HTTP.
//!
//! One order of locks holds in every transaction: rows of `cdr` first, then rows of `cdr_queue`, each sorted by
//! `call_id`. One clock: `vobiz.now()`. Functions take a connection, so that callers join them in one transaction.

pub mod account;
pub mod asked;
pub mod audit;
pub mod backfill;
pub mod backlog;
pub mod callback;
pub mod cdr;
pub mod clock;
pub mod compare;
mod connection;
pub mod day;
pub mod dead_letter;
pub mod migration;
pub mod overview;
pub mod partition;
pub mod queue;
pub mod report;
pub mod role;
pub mod rollup;
pub mod safe_to_bill;
pub mod setting;
pub mod task;
pub mod version;

pub use crate::timed;
pub use connection::{
    DbError, Held, Kept, check_server, connect, create_database, hold, hold_again, reach, unlock_all,
};

/// What a failure of Postgres means for the work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Serialisation failure or deadlock: the same again will do.
    Retry,
    /// SQLSTATE class 22, 23 or 54: this data will never be taken; whatever else was in the group may be.
    Data,
    /// Everything else (Postgres away, disk full, no permission): our fault, it costs the calls nothing.
    Ours,
}

/// Judges a failure by its SQLSTATE.
pub fn fault(error: &sqlx::Error) -> Fault {
    if matches!(error, sqlx::Error::Encode(_)) {
        return Fault::Data;
    }
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code);
    let constraint = database.and_then(sqlx::error::DatabaseError::constraint);
    match code.as_deref() {
        Some("40001" | "40P01") => Fault::Retry,
        // A missing partition is reported as a violated check without a name (the words depend on lc_messages): our fault.
        Some("23514") if constraint.is_none() => Fault::Ours,
        Some(code) if matches!(code.get(..2), Some("22" | "23" | "54")) => Fault::Data,
        _ => Fault::Ours,
    }
}
