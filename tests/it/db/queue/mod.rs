//! What we owe.

mod outcome;
mod races;
