//! One integration binary: real Postgres, real HTTP, the built program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking, its helpers too")]

mod receive;
mod support;
