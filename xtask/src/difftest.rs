//! `cargo xtask difftest`: the interpreter against the host's CPU, with as many generated instructions as one likes.

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::command::{cargo, run};
use crate::workspace;

/// The test in `vmm/src/soft/difftest` that this runs.
const TEST: &str = "soft::difftest::generated_cases_end_as_on_the_hosts_cpu";

const EXAMPLES: &str = "\
Examples:
  cargo xtask difftest                       a million cases, about a minute on an idle host
  cargo xtask difftest --cases 10000000      ten million
  cargo xtask difftest --seed 7              other ones
  cargo xtask difftest --only 'Shld|rep Movs'  only forms whose name has one of these in it

A case that ends differently is printed as it can be pasted into vmm/src/soft/difftest/named.rs.";

/// How many cases, and which.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cases to run
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Where the random numbers start: the same seed gives the same cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only forms of instructions whose name contains one of these words, separated by |
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
}

/// Runs the cases.
///
/// # Errors
/// A case ended differently, or the test could not be built.
pub(crate) fn test(args: &Args) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--quiet", "--release", "--package", "vmm", "--lib", "--target-dir"])
        .arg(workspace::target(""))
        .args(["--", "--exact", "--nocapture", TEST])
        .env("CARVE_DIFFTEST_CASES", args.cases.to_string())
        .env("CARVE_DIFFTEST_SEED", args.seed.to_string());
    if let Some(words) = &args.only {
        command.env("CARVE_DIFFTEST_ONLY", words);
    }
    run(&mut command)
}
