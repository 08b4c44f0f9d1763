//! A CDR and its versions.

mod change;
mod version;
mod write;
