//! `cargo xtask compare`: the demo app as a container and as a virtual machine, measured side by side.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run as run_command;
use crate::progress::say;
use crate::{setup, workspace};

/// What the demo is measured with: memory that both models can do with, and an end within minutes where a boot takes
/// half a minute.
const DEMO: [&str; 5] = ["--memory", "128m", "--budget", "220", "demo"];

/// What goes on to `carve bench run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Flags and image for `carve bench run` instead of the demo image with its defaults
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    bench: Vec<String>,
}

/// Sets up, measures, and says where the reports are.
///
/// # Errors
/// Set-up's or the run's own.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    let dir = workspace::target("compare");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (html, json) = (dir.join("report.html"), dir.join("report.json"));
    let mut command = Command::new(workspace::carve());
    command.args(["bench", "run", "--json"]).arg(&json).arg("--html").arg(&html);
    if args.bench.is_empty() {
        command.args(DEMO);
    } else {
        command.args(&args.bench);
    }
    run_command(&mut command)?;
    say("compare", &format!("report: {}", html.display()));
    say("compare", &format!("raw data: {}", json.display()));
    Ok(())
}
