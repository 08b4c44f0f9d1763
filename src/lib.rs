//! A Vobiz call ends, and soon after, its CDR is in the owner's Postgres: once, exact, provably complete,
//! and ready for the bill.
//!
//! The map of the house. A room imports only rooms above it in this list; `tests/it/layout/` holds the table.
//!
//! - [`vobiz`]: what Vobiz says: callbacks, CDRs, the API. No SQL.
//! - [`postgres`]: a Postgres of our own, when nobody gave us one. Knows nothing of the rest.
//! - [`simulator`]: a Vobiz to develop against. Speaks HTTP only.
//! - [`watch`]: metrics, heartbeats, conditions: how a loop shows that it lives and what it suffers.
//! - [`retry`]: all of what happens when a request fails, pure: a failure and what is known of it -> the next step.
//! - [`config`]: every setting, checked.
//! - [`db`]: what we keep: all our SQL. No HTTP.
//! - [`account`]: one account: its client, its share of the rate limit, its pause and its probe.
//! - [`receive`]: callback in, call_id committed in a group, 200 out.
//! - [`fetch`]: lease, fetch, store in a group.
//! - [`list`]: reading pages of the CDR list: what sweep and ledger share.
//! - [`sweep`]: list, and store what is missing; also the way out of a backlog, by pages instead of calls.
//! - [`ledger`]: each day compared with Vobiz's own list and totals: the proof.
//! - [`reconcile`]: our calls beside another's list of them. Changes nothing.
//! - [`ops`]: what an operator sees of it: health, readiness, status, metrics.
//! - [`serve`]: runs them together until told to stop.
//! - [`cli`]: what a person types; a file a subcommand.
//!
//! What the bill says is SQL, and lies in `migrations/repeatable/`: `bill/` (customers, days, sums), `views/` (the reports, `safe_to_bill.sql`; masking
//! is `views/cdr_masked.sql`), `ledger/` (days of the provider, what reopens them), `cdr/` (triggers). Metrics are all in `src/watch/metrics.rs`.

pub mod account;
pub mod cli;
pub mod config;
pub mod db;
pub mod fetch;
pub mod ledger;
pub mod list;
pub mod ops;
pub mod postgres;
pub mod receive;
pub mod reconcile;
pub mod retry;
pub mod serve;
pub mod simulator;
pub mod sweep;
pub mod vobiz;
pub mod watch;
