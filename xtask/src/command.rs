//! Runs programs, with errors that name them.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::spin;
use crate::workspace;

/// The cargo that runs this xtask, in the checkout.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command
}

/// Runs a program whose output is the user's to see.
///
/// # Errors
/// It could not be started or did not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a program behind a spinner; what it prints is shown only when it fails.
///
/// # Errors
/// It could not be started or did not succeed.
pub(crate) fn run_quietly(text: &str, command: &mut Command) -> Result<()> {
    let output = spin(text, || capture(command))?;
    if !output.status.success() {
        let printed = [output.stdout, output.stderr].concat();
        bail!("{} failed ({}):\n{}", line(command), output.status, String::from_utf8_lossy(&printed).trim());
    }
    Ok(())
}

/// What a program printed and how it ended.
///
/// # Errors
/// It could not be started.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", line(command)))
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_show_the_command_and_what_it_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo to-out; echo to-err >&2; exit 3"]);
        let error = run_quietly("testing", &mut command).expect_err("failed").to_string();
        for part in ["sh -c", "exit status: 3", "to-out", "to-err"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = capture(&mut Command::new("/nowhere/program")).expect_err("absent");
        assert!(error.to_string().contains("/nowhere/program"), "{error}");
    }
}
