//! What we keep, room by room.

mod account;
mod base;
mod bill;
mod cdr;
mod queue;
