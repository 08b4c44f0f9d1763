//! What the bill is made of.

mod billing;
mod rollup;
mod views;
