//! Says why a test did not run.

use std::fs::OpenOptions;
use std::io::Write;

/// Prints the reason and leaves it in the file that `CARVE_TEST_SKIPS` names, where `cargo xtask test` counts it.
pub(crate) fn skip(test: &str, reason: &str) {
    println!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("CARVE_TEST_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("skips file opens");
        writeln!(file, "{test}: {reason}").expect("skip noted");
    }
}
