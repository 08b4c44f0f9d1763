//! What everything in `db` stands on: connections, the one clock, shared settings, the schema itself, long tasks, the audit log.

pub mod audit;
pub mod blocker;
pub mod brief;
pub(super) mod cause;
pub mod clock;
pub(super) mod columns;
pub(super) mod connection;
pub mod credentials;
pub(super) mod distrust;
pub(super) mod fault;
pub mod migration;
pub mod partition;
pub mod pooling;
pub mod retry;
pub mod role;
pub mod session;
pub mod setting;
pub mod task;
pub(super) mod time;
mod tls_files;
pub mod work_lease;
