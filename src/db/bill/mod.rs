//! The bill: the sums that are kept beside the calls, and the questions that finance asks of them.

pub mod billing;
pub mod completeness;
mod detail;
pub mod itemised;
pub mod proof;
pub mod report;
pub mod rollup;
pub mod rollup_day;
pub mod unclear;
