//! What we keep, room by room.

mod account;
pub(crate) mod base;
pub(crate) mod bill;
mod cdr;
mod ledger;
mod overview;
mod queue;
mod reconcile;
mod retirement;
