//! One integration binary: real Postgres, real HTTP, the built program.

mod cli;
mod faults;
mod fetch;
mod postgres;
mod simulator;
mod support;
