//! The queue: one row per call we owe. Enqueueing is in [`enqueue`], since a callback is logged and owed in one
//! statement; leasing in [`lease`](fn@lease), the verbs that end a lease in `outcome.rs`, and what a flow calls in
//! [`store`](fn@store): all of a group in one transaction, with the locks in their order.
//!
//! ```text
//!                 lease (due_at moves on)             stored: the row is gone
//!   owed, due  ───────────────────────────▶  leased ───────────────────────────▶  (vobiz.cdr)
//!      ▲  ▲                                   │  │ │
//!      │  └───────── postpone, release ───────┘  │ └── close (speculative) ────▶  (vobiz.closed_call)
//!      └──────────── revive ──────  dead  ◀──────┘ bury
//! ```
//!
//! A lease that is cut off needs no care: its row just falls due again. Postponing, burying and closing are fenced by
//! `lease_id`: a late holder changes nothing. Storing is not: a stored CDR pays the debt, under whichever lease.

pub mod backlog;
pub mod dead_letter;
mod depth;
pub mod enqueue;
mod lease;
pub mod nonce;
pub mod other_accounts;
mod outcome;
mod store;

pub use depth::{QueueDepth, any_due, depth, owed_elsewhere};
pub use lease::{CERTAIN_PRIORITIES, Lease, ScanStarts, lease, mend_due};
pub use outcome::{Failed, Then};
pub use store::{FetchOutcome, StoredOutcomes, StoredRows, owe_listed, store, store_listed};
