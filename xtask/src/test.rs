//! `cargo xtask test`: every test there is, and one line that says how it went.

#![expect(clippy::print_stdout, reason = "test output goes to standard output, with the totals at its end")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{fs, process};

use anyhow::{Context, Result};

use crate::command::{cargo, line};
use crate::progress::say;
use crate::totals::Totals;
use crate::{lint, setup, tidy, workspace};

/// Names the file in which a test that cannot run here leaves `NAME: REASON`.
const SKIPS: &str = "CARVE_TEST_SKIPS";

/// Runs everything, whatever fails on the way; the exit code is failure when anything did.
pub(crate) fn run() -> ExitCode {
    let mut totals = Totals::default();
    // Without its parts the rest would fail for reasons that hide this one.
    match setup::run() {
        Ok(()) => run_all(&mut totals),
        Err(error) => {
            say("test", &format!("set-up failed: {error:#}"));
            totals.count(false);
        }
    }
    totals.reasons().iter().for_each(|reason| println!("{reason}"));
    println!("{totals}");
    if totals.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(totals: &mut Totals) {
    let skips = Skips::new();
    let near = ["--workspace", "--exclude", "tests", "--lib", "--bins", "--tests"];
    cargo_test(totals, &skips.path, &near, &[]);
    // Machines and networks are the host's: one end-to-end test at a time.
    cargo_test(totals, &skips.path, &["--package", "tests"], &["--test-threads=1"]);
    for (name, check) in
        [("tidy", tidy::run as fn() -> Result<()>), ("format", lint::format), ("clippy", lint::clippy)]
    {
        let result = check();
        match &result {
            Ok(()) => println!("check {name} ... ok"),
            Err(error) => println!("check {name} ... FAILED\n{error:#}"),
        }
        totals.count(result.is_ok());
    }
    totals.take_skips(&fs::read_to_string(&skips.path).unwrap_or_default());
}

fn cargo_test(totals: &mut Totals, skips: &Path, which: &[&str], how: &[&str]) {
    let mut command = cargo();
    command
        .args(["test", "--no-fail-fast"])
        .args(which)
        .arg("--target-dir")
        .arg(workspace::target(""))
        .arg("--")
        .args(how)
        .env(SKIPS, skips);
    let failed_before = totals.failed();
    let success = stream(&mut command, |line| totals.count_line(line)).unwrap_or_else(|error| {
        say("test", &format!("{error:#}"));
        false
    });
    totals.end_run(failed_before, success);
}

/// Runs a command, passing its output on line by line, and tells whether it succeeded.
fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", line(command)))?;
    let output = child.stdout.take().expect("asked for above");
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\n');
        println!("{text}");
        on_line(text);
        bytes.clear();
    }
    Ok(child.wait()?.success())
}

/// The file of skipped tests, removed at the end.
struct Skips {
    path: PathBuf,
}

impl Skips {
    fn new() -> Self {
        Self { path: std::env::temp_dir().join(format!("carve-test-skips-{}", process::id())) }
    }
}

impl Drop for Skips {
    fn drop(&mut self) {
        // Not there when no test was skipped.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_passed_on_line_by_line_with_the_outcome() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\n\\377two\\nthree'; exit 1"]);
        let success = stream(&mut command, |line| lines.push(line.to_owned())).expect("ran");
        assert!(!success);
        assert_eq!(lines, ["one", "\u{fffd}two", "three"]);
    }
}
