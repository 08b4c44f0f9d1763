//! A Vobiz call ends, and soon after, its CDR is in the owner's Postgres: once, exact, provably complete,
//! and ready for the bill.
//!
//! The map of the house: four rooms, one rule, the flows. Imports point one way (`tests/it/layout.rs` holds it).
//!
//! - [`vobiz`]: what Vobiz says: callbacks, CDRs, the API. No SQL.
//! - [`db`]: what we keep: all our SQL. No HTTP.
//! - [`postgres`]: a Postgres of our own, when nobody gave us one. Knows nothing of the rest.
//! - [`simulator`]: a Vobiz to develop against. Speaks HTTP only.
//! - [`retry`]: the rule: a failed attempt -> wait, pause the account, or bury.
//! - [`receive`]: callback in, call_id committed in a group, 200 out.
//! - [`fetch`]: lease, fetch, settle in a group.
//! - [`sweep`]: list, and store what is missing; also the way out of a backlog, by pages instead of calls.
//! - [`reconcile`]: our calls beside somebody else's list of them: the provider's export, or a table of the owner's.
//! - [`account`]: what fetch and sweep share of one account: its client, its pace, its pause.
//! - [`metrics`]: what the flows count; [`pulse`]: whether a loop moves; [`trouble`]: a lasting trouble is said once.
//! - [`ops`]: what an operator sees of it: health, readiness, status, metrics.
//! - [`serve`]: runs them together until told to stop; [`listen`] is a port, [`config`] all settings.
//! - [`progress`]: how far a long command has come.
//! - [`demo`] and [`simulate`]: the subcommands of these names; [`own_postgres`] is `postgres`.

pub mod account;
pub mod config;
pub mod db;
pub mod demo;
pub mod fetch;
pub mod listen;
pub mod metrics;
pub mod ops;
pub mod own_postgres;
pub mod postgres;
pub mod progress;
pub mod pulse;
pub mod receive;
pub mod reconcile;
pub mod retry;
pub mod serve;
pub mod simulate;
pub mod simulator;
pub mod sweep;
pub mod trouble;
pub mod vobiz;
