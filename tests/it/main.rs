//! One integration binary.

mod postgres;
