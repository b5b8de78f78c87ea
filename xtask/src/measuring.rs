//! What the verbs that measure a binary have in common: flags, and a report with limits that the binary may not exceed.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Their flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Print raw samples and figures as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// The seed of the order of the runs, to have the same again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Measure this binary instead of building the checkout's
    #[arg(long, value_name = "FILE")]
    pub(crate) carve: Option<PathBuf>,
}

impl Flags {
    /// The seed that was given, or one of 32 bits by chance.
    pub(crate) fn seed(&self) -> u64 {
        // Random keys are what the standard library has a source of randomness for.
        self.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32)
    }

    /// Prints a report.
    ///
    /// # Errors
    /// A limit that is not kept to, or a report that is not JSON.
    #[expect(clippy::print_stdout, reason = "the report is what the verb is for")]
    pub(crate) fn print(&self, report: &impl Limited) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(report).context("the report is not JSON")?);
        } else {
            print!("{}", report.text());
        }
        match report.broken().as_slice() {
            [] => Ok(()),
            broken => bail!("beyond the limit: {}", broken.join("; ")),
        }
    }
}

/// A report whose figures are held against limits.
pub(crate) trait Limited: Serialize {
    /// The limits that are not kept to, by name.
    fn broken(&self) -> Vec<&str>;

    /// The report as plain text of several lines, without colours.
    fn text(&self) -> String;
}
