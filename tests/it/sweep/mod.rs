//! What the list heals.

mod drain;
