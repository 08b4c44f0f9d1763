//! One integration binary: real Postgres, real HTTP, the built program.

mod receive;
mod support;
