//! `carve vm rebase`: the memory of a diff snapshot over that of the one before.

use std::path::PathBuf;

use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm rebase base.memory next.diff
  carve vm restore --state next.state --memory base.memory

Writes what the diff holds into BASE, which then is the memory of the later snapshot. No machine may run from BASE.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The memory of the snapshot before
    #[arg(value_name = "BASE")]
    base: PathBuf,
    /// The memory of the diff snapshot
    #[arg(value_name = "DIFF")]
    diff: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    vmm::snapshot::rebase(&args.base, &args.diff)?;
    Ok(Exit::Success)
}
