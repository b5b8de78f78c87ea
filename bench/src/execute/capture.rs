//! Runs a short command for what it prints.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::ExecuteError;
use super::instance::wait_for_end;
use super::poll::system;

/// The most output that is kept, in bytes.
const MOST: u64 = 16 << 20;

/// The standard output of a command that must succeed within `limit`.
pub(super) fn capture(argv: &[String], limit: Duration) -> Result<String, ExecuteError> {
    let command = argv.join(" ");
    let program = argv.first().cloned().unwrap_or_default();
    let mut child = Command::new(&program)
        .args(argv.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ExecuteError::Spawn { program, source })?;
    let stdout = child.stdout.take().map(read_in_background);
    let stderr = child.stderr.take().map(read_in_background);
    let Some(status) = wait_for_end(&mut child, limit)? else {
        child.kill().map_err(system("end a command that is too slow"))?;
        child.wait().map_err(system("wait for a command that was ended"))?;
        return Err(ExecuteError::Slow { command, limit });
    };
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|r| r.join().ok()).unwrap_or_default()
    };
    let (output, message) = (text(stdout), text(stderr));
    if status.success() {
        Ok(output)
    } else {
        let message = message.trim().to_owned();
        Err(ExecuteError::Failed { command, status: status.to_string(), message })
    }
}

/// The same, read as JSON.
pub(super) fn capture_json<T: DeserializeOwned>(argv: &[String], limit: Duration) -> Result<T, ExecuteError> {
    let output = capture(argv, limit)?;
    serde_json::from_str(&output).map_err(|source| ExecuteError::Json { command: argv.join(" "), source })
}

/// A command line of words and paths.
pub(super) fn argv<const N: usize>(program: &Path, words: [&str; N]) -> Vec<String> {
    std::iter::once(program.display().to_string()).chain(words.map(str::to_owned)).collect()
}

fn read_in_background(stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends the output; what came before it counts.
        let _ = stream.take(MOST).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Result<String, ExecuteError> {
        capture(&argv(Path::new("sh"), ["-c", script]), limit)
    }

    #[test]
    fn returns_what_was_printed() {
        assert_eq!(run("echo hello", Duration::from_secs(20)).expect("runs"), "hello\n");
    }

    #[test]
    fn says_why_a_command_failed() {
        let failed = run("echo no such image >&2; exit 3", Duration::from_secs(20)).expect_err("fails");
        let message = failed.to_string();
        assert!(message.contains("no such image") && message.contains('3'), "{message}");
        let slow = run("sleep 30", Duration::from_millis(20)).expect_err("is slow");
        assert!(matches!(slow, ExecuteError::Slow { .. }), "{slow}");
        let absent =
            capture(&argv(Path::new("/no/such/program"), []), Duration::from_secs(1)).expect_err("absent");
        assert!(absent.to_string().contains("/no/such/program"), "{absent}");
    }
}
