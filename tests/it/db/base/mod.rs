//! The schema and the roles that may use it.

mod fault;
mod migration;
mod partition;
mod reader_locks;
mod rights;
pub(crate) mod role;
mod schema;
mod session;
mod setting;
mod work_lease;
