//! One integration binary: real Postgres, real HTTP, the built program. A file or a folder for each room and each command.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod account;
mod cli;
mod clock;
mod db;
mod docs;
mod faults;
mod fetch;
mod layout;
mod ledger;
mod list;
mod ops;
mod postgres;
mod receive;
mod reconcile;
mod retry;
mod serve;
mod simulator;
mod support;
mod sweep;
mod week;
