//! A Vobiz call ends, and soon after, its CDR is in the owner's Postgres.
pub mod account;
pub mod config;
pub mod db;
pub mod fetch;
pub mod listen;
pub mod postgres;
pub mod receive;
pub mod retry;
pub mod serve;
pub mod sweep;
pub mod vobiz;
