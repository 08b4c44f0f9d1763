//! The migrations are compiled in: a new file in that folder is a new binary. So is the text of `migrations/repeatable/`, by its ORDER.

use std::fmt::Write;
use std::path::Path;

fn main() {
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
