//! What is fuzzed. A target takes any bytes and panics where a promise does not hold; `bounds` says what reading them may cost.

mod callback;
mod cdr;
mod csv;
mod list;
mod record;
mod signature;

use crate::vobiz::wallet;

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 8] = [
    ("callback_form", callback::form),
    ("callback_query", callback::query),
    ("callback_json", callback::json),
    ("signature", signature::run),
    ("cdr", cdr::run),
    ("list", list::run),
    ("csv", csv::run),
    ("wallet", wallet::run),
];
