//! Which version of a CDR wins. Pure.
//!
//! Versions are ordered by (a sub-account's own word before that of others, `updated_at` nulls first, time of the request by Postgres's
//! clock, content hash): the same set of versions ends in the same row, in whatever order it comes in. A row of a list may lack keys that
//! the single record has; there, an absent key says nothing.

use chrono::{DateTime, Utc};

use crate::vobiz::{Overlap, Payload};

/// What orders versions of one call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// A sub-account's own list or record says so of its own call. Where the list of its parent shows the call as well and says something
    /// else, each check of either would change what is billed, and whose the call is.
    pub by_owner: bool,
    /// Vobiz's `updated_at`; `None` sorts first.
    pub updated_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub fetched_at: DateTime<Utc>,
    /// SHA-256 of the content.
    pub content_hash: [u8; 32],
}

/// What to do with a version that comes in where one is stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionDecision {
    /// Nothing new: at most the time of confirmation moves on.
    Known,
    /// It replaces the row, and is kept as a revision.
    Replace,
    /// It replaces what it says and leaves what it does not say (a list row), and is kept as a revision.
    Merge,
    /// It is older than the row: kept as a revision unless it is there already. If a list wrote the row, what the list left
    /// out is taken from it.
    Older,
}

/// One side of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct VersionSide<'a> {
    /// Its place in the order.
    pub version: &'a Version,
    /// What it says.
    pub payload: &'a Payload,
    /// It came as a single record, where an absent key means null; false for a row of a list.
    pub complete: bool,
}

/// Decides.
pub fn decide(stored: VersionSide<'_>, incoming: VersionSide<'_>) -> VersionDecision {
    if stored.version.content_hash == incoming.version.content_hash {
        return VersionDecision::Known;
    }
    // What others say of a call beside its own account enriches it at most, as an older version does.
    let is_others = stored.version.by_owner && !incoming.version.by_owner;
    match stored.payload.compare(incoming.payload) {
        Overlap::Same => VersionDecision::Known,
        // The list row says less and nothing else.
        Overlap::Superset if !incoming.complete => VersionDecision::Known,
        // What was stored came from a list; this says more and nothing else. It enriches, whenever it was asked for. Another
        // row of a list does not erase what an older single record said beside both.
        Overlap::Subset if !stored.complete && incoming.complete && !is_others => VersionDecision::Replace,
        Overlap::Subset if !stored.complete && !is_others => VersionDecision::Merge,
        _ if incoming.version < stored.version => VersionDecision::Older,
        _ if incoming.complete => VersionDecision::Replace,
        _ => VersionDecision::Merge,
    }
}
