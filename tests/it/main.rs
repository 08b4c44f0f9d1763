//! One integration binary: real Postgres, real HTTP, the built program.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod cli;
mod faults;
mod fetch;
mod postgres;
mod receive;
mod simulator;
mod support;
