//! What we owe.

mod lease;
mod outcome;
mod races;
