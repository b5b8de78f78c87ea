//! One run: from the start of the command to the guest's first line and to the machine's end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::command::line;

/// Init's first line.
const INIT: &str = "engines: init";
/// What comes before the result of the work.
const ANSWER: &str = "engines: answer ";

/// What one run showed. Times count from the instant before the command was executed.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    /// Until init's first output.
    pub(crate) to_init: Duration,
    /// Until the command had ended.
    pub(crate) to_end: Duration,
    /// The result of the work.
    pub(crate) answer: String,
}

/// A line of the guest's console, and when it came.
type Line = (Duration, String);

/// Runs a machine whose console is on its standard output.
///
/// # Errors
/// It cannot be started, fails, says nothing that it should, or is not done after `patience`; the console and what
/// the program complained of are part of the message.
pub(crate) fn run(command: &mut Command, patience: Duration) -> Result<Run> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", line(command)))?;
    let complaints = read_complaints(&mut child);
    let lines = read_lines(&mut child, started);
    let (console, in_time) = collect(&lines, started + patience);
    if !in_time {
        // It may be at its end just now.
        let _ = child.kill();
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", line(command)))?;
    let to_end = started.elapsed();
    let outcome = if !in_time {
        Err(anyhow!("not done after {} s", patience.as_secs()))
    } else if !status.success() {
        Err(anyhow!("failed ({status})"))
    } else {
        understand(&console, to_end)
    };
    outcome.map_err(|error| {
        let mut message = format!("{}: {error}", line(command));
        let complaints = complaints.join().unwrap_or_default();
        for text in console.iter().map(|(_, text)| text.as_str()).chain(complaints.lines()) {
            message.push_str("\n  ");
            message.push_str(text);
        }
        anyhow!(message)
    })
}

fn read_complaints(child: &mut Child) -> thread::JoinHandle<String> {
    let mut stderr = child.stderr.take().expect("asked for above");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What can be read is better than nothing.
        let _ = stderr.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The console's lines, with the times at which they were complete.
fn read_lines(child: &mut Child, started: Instant) -> Receiver<Line> {
    let mut reader = BufReader::new(child.stdout.take().expect("asked for above"));
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let at = started.elapsed();
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if sender.send((at, text)).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}

/// All lines until the console's end, and whether that came in time.
fn collect(lines: &Receiver<Line>, deadline: Instant) -> (Vec<Line>, bool) {
    let mut console = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => console.push(line),
            Err(RecvTimeoutError::Disconnected) => return (console, true),
            Err(RecvTimeoutError::Timeout) => return (console, false),
        }
    }
}

/// What the guest said.
fn understand(console: &[Line], to_end: Duration) -> Result<Run> {
    let Some((to_init, _)) = console.iter().find(|(_, text)| text == INIT) else {
        bail!("the guest's init did not run");
    };
    let answer = console.iter().find_map(|(_, text)| text.strip_prefix(ANSWER)).map_or("", str::trim);
    if answer.is_empty() {
        bail!("the guest gave no answer");
    }
    Ok(Run { to_init: *to_init, to_end, answer: answer.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn times_and_answer_are_taken_from_the_console() {
        let script = "echo noise; echo 'engines: init'; sleep 0.2; printf 'engines: answer 42 -\\r\\n'";
        let run = run(&mut shell(script), Duration::from_secs(60)).expect("ran");
        assert_eq!(run.answer, "42 -");
        assert!(run.to_end >= run.to_init + Duration::from_millis(200), "{run:?}");
    }

    #[test]
    fn failures_show_the_console_and_the_complaints() {
        for (script, parts) in [
            (
                "echo on-console; echo complaint >&2; exit 3",
                &["on-console", "complaint", "exit status: 3"][..],
            ),
            ("echo 'engines: answer 1'", &["init did not run"]),
            ("echo 'engines: init'; echo 'engines: answer '", &["gave no answer"]),
        ] {
            let error = run(&mut shell(script), Duration::from_secs(60)).expect_err("failed");
            for part in parts {
                assert!(format!("{error:#}").contains(part), "{script}: {error:#}");
            }
        }
    }

    #[test]
    fn what_hangs_is_ended() {
        let error = run(&mut shell("echo 'engines: init'; exec sleep 1000"), Duration::from_millis(300));
        assert!(format!("{:#}", error.expect_err("ended")).contains("not done after 0 s"));
    }
}
