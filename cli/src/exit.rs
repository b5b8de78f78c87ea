//! How the process ends: Docker's exit codes, and errors as one line that people can act on.

use std::process::ExitCode;

use clap::error::ErrorKind;
use engine::EngineError;

/// The command itself failed (Docker's code for it).
pub(crate) const FAILED: u8 = 125;

/// What a verb ends with when it did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0.
    Success,
    /// The app's own code.
    Code(i32),
}

/// A reader that closes early, as in `carve ps | head -1`, ends the command quietly.
pub(crate) fn survive_closed_pipes() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.contains("Broken pipe") {
            std::process::exit(0);
        }
        eprintln!("carve: internal error: {panic}");
    }));
}

/// A command line that cannot be parsed, or a request for help.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even this cannot be printed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}

/// Prints the error, if it is one, and chooses the exit code.
pub(crate) fn report(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
        Err(error) => {
            eprintln!("carve: {}", one_line(&error));
            let code = error
                .chain()
                .find_map(|e| e.downcast_ref::<EngineError>())
                .map_or(125, EngineError::exit_code);
            ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
        }
    }
}

/// An error and its causes; many errors name their cause in their own text already.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line {
        line if line.is_empty() => cause,
        line if line.contains(&cause) => line,
        line => format!("{line}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn says_each_cause_once() {
        let error = anyhow!("no space").context("cannot write x: no space").context("import failed");
        assert_eq!(one_line(&error), "import failed: cannot write x: no space");
    }
}
