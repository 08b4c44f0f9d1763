//! The migrations are compiled in: a new file in that folder is a new binary.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
