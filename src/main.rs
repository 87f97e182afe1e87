//! The one binary: composition and command line.

fn main() {}
