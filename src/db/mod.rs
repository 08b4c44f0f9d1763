//! What we keep: all our SQL. Nothing here knows HTTP.
//!
//! Rooms, arrows down only: [`base`] <- [`account`] <- [`cdr`] <- [`queue`] <- [`ledger`], [`bill`]; [`reconcile`] stands by
//! itself; [`retirement`] ends the promise for an account, [`overview`] reads all of it.
//!
//! One order of locks holds in every transaction: rows of `cdr` first, then rows of `cdr_queue`, each sorted by
//! `call_id`. One clock: `vobiz.now()`. Functions take a connection, so that callers join them in one transaction.

pub mod account;
pub mod base;
pub mod bill;
pub mod cdr;
pub mod ledger;
pub mod overview;
pub mod queue;
pub mod reconcile;
pub mod retirement;

pub use crate::timed;
pub use base::cause::{Cause, MIXED_SESSIONS, cause};
pub use base::connection::{
    Acquired, DbError, Ended, KeptConnection, acquire, acquire_again, check_server, connect, connect_service,
    create_database, move_to, open, why_not,
};
pub use base::distrust::distrust_open_connections;
pub use base::fault::{Fault, fault};
