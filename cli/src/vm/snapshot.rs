//! `carve vm snapshot`: a running machine in two files.

use std::path::{PathBuf, absolute};

use anyhow::Context;
use serde_json::json;

use super::control::Control;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm snapshot --api-sock /tmp/vm.sock --state vm.state --memory vm.memory
  carve vm snapshot --api-sock /tmp/vm.sock --state vm.state --memory vm.memory --resume
  carve vm snapshot --api-sock /tmp/vm.sock --state next.state --memory next.diff --diff

A machine in a jail writes to the root of its jail: --state /vm.state is vm.state in the directory that its --jail-root
named. The machine is paused, and stays so without --resume. Its disks are not copied: they must be as they are now when a
machine starts from the snapshot, with `carve vm restore`.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    control: Control,
    /// File for all but the memory
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// File for the memory
    #[arg(long, value_name = "FILE")]
    memory: PathBuf,
    /// Write only what has changed since the last snapshot, to be laid over its memory by `carve vm rebase`
    #[arg(long)]
    diff: bool,
    /// Let the guest go on afterwards
    #[arg(long)]
    resume: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.control.client();
    client.patch("/vm", &json!({ "state": "Paused" }))?;
    // The machine's process may have another working directory.
    let body = json!({
        "snapshot_type": if args.diff { "Diff" } else { "Full" },
        "snapshot_path": absolute(&args.state).context("--state is no path")?,
        "mem_file_path": absolute(&args.memory).context("--memory is no path")?,
    });
    let taken = client.put("/snapshot/create", &body);
    if args.resume {
        client.patch("/vm", &json!({ "state": "Resumed" }))?;
    }
    taken.context("there is no snapshot")?;
    Ok(Exit::Success)
}
