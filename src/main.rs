//! The command line comes with the next commit.
fn main() {}
