//! What the tests share: real Postgres, real HTTP.

pub(crate) mod calls;
pub(crate) mod database;
