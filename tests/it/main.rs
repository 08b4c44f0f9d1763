//! One integration binary: real Postgres, real HTTP, the built program.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod accounts;
mod cdr;
mod cdr_versions;
mod cli;
mod compare;
mod faults;
mod fetch;
mod layout;
mod migrations;
mod ops;
mod postgres;
mod queue;
mod races;
mod receive;
mod serve;
mod simulator;
mod support;
mod walk;
