//! A CDR and its versions.

mod change;
mod owner;
mod reading;
mod version;
mod write;
