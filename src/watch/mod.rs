//! How a loop shows that it lives and what it suffers: counted, beating, and said once.

pub mod condition;
pub mod heartbeat;
pub mod metrics;
