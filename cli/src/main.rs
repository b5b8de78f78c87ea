//! The carve binary: one file per verb, parse, call, print.

fn main() {}
