//! One integration binary: real Postgres, real HTTP, the built program.

mod fetch;
mod support;
