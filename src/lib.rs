//! A Vobiz call ends, and soon after, its CDR is in the owner's Postgres: once, exact, provably complete,
//! and ready for the bill.
pub mod postgres;
pub mod simulator;
pub mod vobiz;
