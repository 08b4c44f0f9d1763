//! What the bill is made of.

mod billing;
mod calendar;
mod rollup;
mod views;
