//! One integration binary: real Postgres, real HTTP, the built program.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod accounts;
mod backfill;
mod billing;
mod cdr;
mod cdr_versions;
mod change;
mod cli;
mod compare;
mod days;
mod faults;
mod fence;
mod fetch;
mod layout;
mod migrations;
mod ops;
mod other_accounts;
mod postgres;
mod queue;
mod races;
mod receive;
mod reparse;
mod report;
mod retry;
mod roles;
mod rollup;
mod serve;
mod simulator;
mod sql_layout;
mod sub_accounts;
mod support;
mod views;
mod walk;
mod week;
