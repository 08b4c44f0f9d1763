//! The names of values and the rows, from their own file.

#[path = "../../../src/db/reconcile/theirs.rs"]
mod theirs;

pub use theirs::*;

/// Nothing here reads a table, so no table is ever wrong.
#[derive(Debug, thiserror::Error)]
pub enum TableError {}
