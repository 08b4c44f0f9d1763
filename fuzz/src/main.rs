//! Hostile inputs for what vobiz-cdr reads: callbacks, signatures, records, lists, other people's files. `./dev fuzz` runs it.
//!
//! There are two drivers for the same targets. With the feature `guided` it is libFuzzer, which keeps what reaches new code. Without it, this
//! crate's own: known inputs, changed at random from a seed; it needs nothing but Rust.

#![cfg_attr(feature = "guided", no_main)]

#[cfg(not(feature = "guided"))]
mod blind;
mod bounds;
mod independent;
mod target;

// The readers themselves. Much of them is for parts of the service that are not here.
#[allow(dead_code, unused_imports, missing_docs, reason = "of each room only the readers are used")]
mod db;
#[allow(dead_code, unused_imports, missing_docs, reason = "of each room only the readers are used")]
mod reconcile;
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    missing_docs,
    reason = "of each room only the readers are used"
)]
mod vobiz;

use target::{TARGETS, Target};

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| {
        panic!("{name:?} is no target; there are {}", TARGETS.map(|(name, _)| name).join(" "));
    })
}

#[cfg(not(feature = "guided"))]
fn main() -> std::io::Result<()> {
    blind::main()
}

/// libFuzzer has a command line of its own, so the name comes by the environment.
#[cfg(feature = "guided")]
static CHOSEN: std::sync::LazyLock<Target> =
    std::sync::LazyLock::new(|| target(&std::env::var("FUZZ_TARGET").unwrap_or_default()));

#[cfg(feature = "guided")]
libfuzzer_sys::fuzz_target!(|input: &[u8]| (CHOSEN.1)(input));
