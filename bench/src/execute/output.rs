//! Finds the instant of the first line of output, by a blocking read of the pipe.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ChildStdout;

use rustix::event::{PollFd, PollFlags};

use super::ExecuteError;
use super::poll::{system, wait};
use crate::clock::now_ns;

/// The longest first line, in bytes.
const LONGEST: usize = 64 << 10;

/// How a wait for output ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The first line, without its end.
    Line {
        /// When it was there, in nanoseconds.
        at_ns: u64,
        /// Its bytes.
        line: Vec<u8>,
    },
    /// The output ended without a line.
    Ended,
    /// Time is up.
    TimedOut,
}

/// Waits for the first line on `stdout` until `until_ns`. A line that is too long is cut.
pub(super) fn first_line(stdout: &mut ChildStdout, until_ns: u64) -> Result<Output, ExecuteError> {
    let mut received = Vec::new();
    loop {
        let ready = wait(&mut [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)], until_ns)?;
        if !ready {
            return Ok(Output::TimedOut);
        }
        let mut buffer = [0_u8; 4096];
        let read = stdout.read(&mut buffer).map_err(system("read the app's output"))?;
        let at_ns = now_ns();
        received.extend_from_slice(&buffer[..read]);
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            received.truncate(end);
            return Ok(Output::Line { at_ns, line: received });
        }
        if received.len() >= LONGEST {
            return Ok(Output::Line { at_ns, line: received });
        }
        if read == 0 {
            // A last line need not end in a line break.
            return Ok(if received.is_empty() {
                Output::Ended
            } else {
                Output::Line { at_ns, line: received }
            });
        }
    }
}

/// Reads on to the end, in a thread of its own, so that an app that writes more does not block.
pub(super) fn drain(mut stdout: ChildStdout) {
    std::thread::spawn(move || {
        // What is read here interests nobody, and neither does a pipe that breaks.
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn line_of(script: &str, limit_ns: u64) -> Output {
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("sh runs");
        let mut stdout = child.stdout.take().expect("piped");
        let output = first_line(&mut stdout, now_ns() + limit_ns).expect("reads");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        output
    }

    #[test]
    fn takes_the_first_line_only() {
        for (script, expected) in
            [("echo one; echo two; sleep 9", "one"), ("printf a; printf 'b\\n'", "ab"), ("printf x", "x")]
        {
            let output = line_of(script, 20_000_000_000);
            assert!(
                matches!(&output, Output::Line { line, .. } if line == expected.as_bytes()),
                "{output:?}"
            );
        }
    }

    #[test]
    fn says_when_there_is_none() {
        assert_eq!(line_of("true", 20_000_000_000), Output::Ended);
        assert_eq!(line_of("sleep 9", 20_000_000), Output::TimedOut);
    }
}
