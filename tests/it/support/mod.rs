//! What the tests share: real Postgres, real HTTP.

pub(crate) mod bill;
pub(crate) mod calls;
pub(crate) mod chaos_proxy;
mod container;
pub(crate) mod database;
pub(crate) mod endpoint;
pub(crate) mod log;
pub(crate) mod pgbouncer;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod running;
pub(crate) mod their_list;
pub(crate) mod wait;
pub(crate) mod world;
