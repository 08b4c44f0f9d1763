//! One integration binary: real Postgres, real HTTP, the built program.

mod accounts;
mod cdr;
mod cdr_versions;
mod layout;
mod migrations;
mod queue;
mod races;
mod support;
