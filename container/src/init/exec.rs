//! The last step: the container's program.

use rustix::io::Errno;

use crate::channel::Report;
use crate::plan::ProcessPlan;
use crate::sys;

/// Executes the first of the candidates that can be; returns why none could, in the way of execvp(3).
pub(super) fn exec(process: &ProcessPlan) -> Report {
    let mut failure = Errno::NOENT;
    for program in &process.programs {
        match sys::execve(program, &process.args, &process.env) {
            Errno::NOENT | Errno::NOTDIR => {}
            // There may be another one that may be executed.
            Errno::ACCESS => failure = Errno::ACCESS,
            errno => {
                failure = errno;
                break;
            }
        }
    }
    let program = process.args.strings().first().map(|name| name.to_string_lossy().into_owned());
    Report::NotExecuted { program: program.unwrap_or_default(), errno: failure.raw_os_error() }
}
