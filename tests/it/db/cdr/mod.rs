//! A CDR and its versions.

mod change;
mod reading;
mod version;
mod write;
