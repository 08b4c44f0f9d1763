//! How a loop shows that it lives and what it suffers: metrics, heartbeats, and conditions that are logged once.

pub mod arrivals;
pub mod condition;
pub mod heartbeat;
pub mod metrics;

/// Version and commit of this build.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("VOBIZ_CDR_COMMIT"), ")");
