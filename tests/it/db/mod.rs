//! What we keep, room by room.

mod account;
mod base;
pub(crate) mod bill;
mod cdr;
mod ledger;
mod overview;
mod queue;
mod reconcile;
