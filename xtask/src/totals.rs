//! Counts what tests did, from what libtest prints and from the list of skipped tests.

use std::collections::BTreeMap;
use std::fmt;

/// The sum over test binaries and single checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Test binaries that said how many tests they have, and those that said how it went.
    begun: u64,
    ended: u64,
    /// Why each skipped test was skipped, by name.
    skips: BTreeMap<String, String>,
}

impl Totals {
    /// Counts one line of a test binary's output.
    pub(crate) fn count_line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.ended += 1;
            for part in result.split(['.', ';']) {
                let mut words = part.split_whitespace();
                if let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) {
                    match what {
                        "passed" => self.passed += number,
                        "failed" => self.failed += number,
                        "ignored" => self.ignored += number,
                        _ => {}
                    }
                }
            }
        } else if is_start(line) {
            self.begun += 1;
        }
    }

    /// Counts one check that is not libtest's.
    pub(crate) fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Ends a `cargo test`: a binary that died on the way is one failure, and so is a run that failed without any test
    /// that failed, because something did not build or start.
    pub(crate) fn end_run(&mut self, failed_before: u64, success: bool) {
        self.failed += self.begun.saturating_sub(self.ended);
        (self.begun, self.ended) = (0, 0);
        if !success && self.failed == failed_before {
            self.failed += 1;
        }
    }

    /// Takes in the list that tests left: `NAME: REASON` lines. Such tests ended without failing and count as skipped.
    pub(crate) fn take_skips(&mut self, text: &str) {
        for (name, reason) in text.lines().filter_map(|line| line.split_once(": ")) {
            if self.skips.insert(name.to_owned(), reason.to_owned()).is_none() {
                self.passed = self.passed.saturating_sub(1);
            }
        }
    }

    /// Failures so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Why tests were skipped, one line each.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.skips.iter().map(|(name, reason)| format!("skipped: {name}: {reason}")).collect();
        if self.ignored > 0 {
            lines.push(format!("skipped: {} tests are marked #[ignore]", self.ignored));
        }
        lines
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.ignored + self.skips.len() as u64;
        write!(f, "tests: {} passed, {} failed, {skipped} skipped", self.passed, self.failed)
    }
}

/// `running N tests`.
fn is_start(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next() == Some("running")
        && words.next().is_some_and(|number| number.parse::<u64>().is_ok())
        && matches!(words.next(), Some("test" | "tests"))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "running 3 tests\ntest a ... ok\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; \
                      0 measured; 5 filtered out; finished in 0.52s\n";
    const FAILED: &str = "running 1 test\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; \
                          0 filtered out; finished in 1.00s\n";

    fn totals(text: &str, success: bool) -> Totals {
        let mut totals = Totals::default();
        text.lines().for_each(|line| totals.count_line(line));
        totals.end_run(0, success);
        totals
    }

    #[test]
    fn results_of_binaries_add_up() {
        let text = [OK, OK, FAILED].concat();
        assert_eq!(totals(&text, false).to_string(), "tests: 4 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_binary_that_died_is_a_failure() {
        let text = ["running 7 tests\ntest a ... ok\n", OK].concat();
        assert_eq!(totals(&text, false).to_string(), "tests: 2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_failed_without_a_failed_test_is_a_failure() {
        assert_eq!(
            totals("error: could not compile", false).to_string(),
            "tests: 0 passed, 1 failed, 0 skipped"
        );
        let mut totals = totals(FAILED, false);
        totals.end_run(totals.failed(), false);
        assert_eq!(totals.failed(), 2);
    }

    #[test]
    fn skipped_tests_do_not_count_as_passed_and_say_why() {
        let mut totals = totals(OK, true);
        totals.take_skips("vm::boots: no /dev/kvm\nvm::boots: no /dev/kvm\nnonsense\n");
        assert_eq!(totals.to_string(), "tests: 1 passed, 0 failed, 2 skipped");
        assert_eq!(
            totals.reasons(),
            ["skipped: vm::boots: no /dev/kvm", "skipped: 1 tests are marked #[ignore]"]
        );
    }

    #[test]
    fn what_tests_print_is_not_mistaken_for_totals() {
        let text = "running 3 tests quickly\nrunning late\nthe test result: ok. 9 passed\n";
        assert_eq!(totals(text, true), Totals::default());
    }
}
