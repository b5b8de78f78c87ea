//! `cargo xtask lint`: formatting and clippy, as the tests run them.

use anyhow::{Result, bail};

use crate::command::{cargo, run as run_command};
use crate::workspace;

/// Runs both, so that one's failure does not hide the other's.
///
/// # Errors
/// Which of them failed; they print why.
pub(crate) fn run() -> Result<()> {
    match (format(), clippy()) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(format), Err(clippy)) => bail!("{format}; {clippy}"),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Is everything formatted?
pub(crate) fn format() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))
}

/// Is clippy content with every target of every crate?
pub(crate) fn clippy() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--target-dir"]).arg(workspace::target(""));
    run_command(command.args(["--", "-D", "warnings"]))
}
