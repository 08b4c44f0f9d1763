//! How a loop shows that it lives and what it suffers: metrics, heartbeats, and conditions that are logged once.

pub mod arrivals;
pub mod condition;
pub mod heartbeat;
pub mod metrics;
