//! The migrations are compiled in: a new file in that folder is a new binary. So is the text of `migrations/repeatable/`, by its ORDER.

use std::fmt::Write;
use std::path::Path;

/// Which commit this is: said by whoever builds (an image has no history), else by git; only for a release, since it would build
/// everything anew after each commit.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=VOBIZ_CDR_COMMIT");
    if let Some(said) = std::env::var("VOBIZ_CDR_COMMIT").ok().filter(|said| !said.is_empty()) {
        return said;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return "debug".to_owned();
    }
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let asked = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let said = asked.ok().filter(|said| said.status.success());
    said.map_or_else(|| "unknown".to_owned(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn main() {
    println!("cargo:rustc-env=VOBIZ_CDR_COMMIT={}", commit());
    println!("cargo:rerun-if-changed=migrations");
    let order = std::fs::read_to_string("migrations/repeatable/ORDER").expect("migrations/repeatable/ORDER");
    let (first, files) = order.split_once('\n').expect("ORDER has lines");
    let number: i32 = first
        .strip_prefix("text ")
        .and_then(|number| number.parse().ok())
        .expect("the first line of ORDER is `text N`");
    let mut code = format!(
        "/// Number of the text.\npub(super) const NUMBER: i32 = {number};\n\
         /// Its files, name and content, in the order in which they run.\npub(super) const FILES: &[(&str, &str)] = &[\n"
    );
    for file in files.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        writeln!(
            code,
            "    ({file:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/migrations/repeatable/{file}\"))),"
        )
        .expect("a string takes all");
    }
    code.push_str("];\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo says OUT_DIR");
    std::fs::write(Path::new(&out).join("repeatable.rs"), code).expect("OUT_DIR can be written");
}
