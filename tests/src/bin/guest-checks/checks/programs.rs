//! Programs can be started, with what they are told, and what they answer arrives.

use std::process::{Command, ExitCode};

use super::{Outcome, at, expect};

/// The word that has this program answer, and nothing else.
pub(crate) const AGAIN: &str = "again";

/// Programs started.
const TIMES: u64 = 40;

/// What the program does when it is started again: prints the square of its argument.
pub(crate) fn answer(value: &str) -> ExitCode {
    let Ok(value) = value.parse::<u64>() else { return ExitCode::FAILURE };
    println!("{}", value * value);
    ExitCode::from(value.to_le_bytes()[0])
}

/// This program again and again, each time with a value of its own.
pub(crate) fn starts_many() -> Outcome {
    for value in 0..TIMES {
        let mut command = Command::new("/proc/self/exe");
        let output = command.args([AGAIN, &value.to_string()]).output().map_err(at("start a program"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let code = output.status.code().and_then(|code| u64::try_from(code).ok());
        expect(said.trim() == (value * value).to_string() && code == Some(value), || {
            format!("the program for {value} said {said:?} and ended with {:?}", output.status)
        })?;
    }
    Ok(())
}
