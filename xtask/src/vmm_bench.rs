//! `cargo xtask vmm-bench`: what the VMM itself costs, guests aside: to start, in memory, to restore, by the clone.

mod clones;
mod guest;
mod machine;
mod memory;
mod overhead;
mod restore;
mod start;

use anyhow::{Context, Result};

use crate::figures::{Figure, Report};
use crate::host::{self, Host};
use crate::measuring::Flags;
use crate::progress::{Outcome, step};
use crate::setup;
use machine::Carve;

const EXAMPLES: &str = "\
Examples:
  cargo xtask vmm-bench
  cargo xtask vmm-bench --samples 100 --json > vmm.json
  cargo xtask vmm-bench start --carve /tmp/before/carve

Exit status: 0, or 1 when something fails or a limit is not kept to.";

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only these
    #[arg(value_enum, value_name = "WHAT")]
    only: Vec<Subject>,
    /// Runs of each start and restore
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    #[command(flatten)]
    flags: Flags,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// From the start of the command to the first output of a guest of a few instructions, against QEMU
    Start,
    /// Memory of the VMM outside of guest RAM
    Overhead,
    /// From the start of the command to the next instruction of a machine in a snapshot, by its size
    Restore,
    /// Memory that one more idle clone of a snapshot takes
    Clones,
}

/// Sets up, measures and prints.
///
/// # Errors
/// Set-up's, carve's, or a limit that is not kept to.
pub(crate) fn run(args: &Args) -> Result<()> {
    let carve = set_up(args)?;
    let seed = args.flags.seed();
    let before = host::load();
    let mut figures: Vec<Figure> = Vec::new();
    let is_wanted = |subject| args.only.is_empty() || args.only.contains(&subject);
    if is_wanted(Subject::Start) {
        figures.extend(start::measure(&carve, args.samples, seed)?);
    }
    if is_wanted(Subject::Overhead) {
        figures.extend(overhead::measure(&carve)?);
    }
    if is_wanted(Subject::Restore) {
        figures.extend(restore::measure(&carve, args.samples, seed)?);
    }
    if is_wanted(Subject::Clones) {
        figures.extend(clones::measure(&carve)?);
    }
    let report =
        Report { host: Host::read(), load: [before, host::load()], seed, absent: Vec::new(), figures };
    args.flags.print(&report)
}

fn set_up(args: &Args) -> Result<Carve> {
    let (binary, kernel) = setup::for_benchmark("vmm-bench", args.flags.carve.as_deref())?;
    let mut guests = None;
    step("the benchmark's guests", || {
        guests = Some(guest::build()?);
        Ok(Outcome::Done)
    })?;
    Ok(Carve { binary, kernel, guests: guests.context("they were built just now")? })
}
