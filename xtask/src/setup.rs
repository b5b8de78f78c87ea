//! `cargo xtask setup`: from a fresh checkout to everything that running, comparing and testing need.
//!
//! Every step looks first whether it was done, so a second run is quick and an interrupted one goes on.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::progress::{Outcome, say, step};
use crate::{agent, demo, kernel, packages, workspace};

/// Sets up.
///
/// # Errors
/// The first step that fails, by name.
pub(crate) fn run() -> Result<()> {
    step("Debian packages", packages::install_missing)?;
    step("guest kernel", || kernel::build(false).map(|_| Outcome::Done))?;
    step("agent", || agent::build().map(|_| Outcome::Done))?;
    step("carve binary", build_carve)?;
    step("demo image", demo::import)?;
    say("setup", &format!("ready: {}", workspace::carve().display()));
    Ok(())
}

/// Cargo knows what has to be built, and shows it.
fn build_carve() -> Result<Outcome> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "cli", "--target-dir"]).arg(workspace::target(""));
    run_command(&mut command)?;
    Ok(Outcome::Done)
}
