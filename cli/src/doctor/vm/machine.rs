//! A command of this program's that runs a machine, its console on standard output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest line, and most of what a command complains that is reported, in bytes.
const LONGEST: u64 = 4096;
/// How often it is looked whether the examination is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Ended when dropped.
pub(super) struct Machine {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<ChildStderr>,
    started: Instant,
    /// Set when it is to end.
    stop: Arc<AtomicBool>,
}

/// `carve ARGS…`.
pub(super) fn carve(args: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(args).env_remove("CARVE_ENGINE");
    command
}

impl Machine {
    /// Runs `command`. Nothing is waited for once `stop` is set.
    ///
    /// # Errors
    /// It cannot be run.
    pub(super) fn start(command: &mut Command, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let started = Instant::now();
        // Standard input is the guest's: a pipe that nobody writes to does not disturb it.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| format!("cannot run carve: {e}"))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = Vec::new();
                while (&mut stdout).take(LONGEST).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let stderr = child.stderr.take();
        Ok(Self { child, lines, stderr, started, stop })
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The console's first line that is `wanted`, if it comes in time.
    ///
    /// # Errors
    /// Says what came instead: nothing, the machine's end with what its command complained of, or an interruption.
    pub(super) fn wait_for<T>(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        let mut last = String::new();
        loop {
            self.check_stop()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(LOOK)) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return Ok(found),
                    None => last = line,
                },
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(RecvTimeoutError::Timeout) => {
                    let said = if last.is_empty() { "nothing" } else { last.trim() };
                    return Err(format!("nothing for {} s; said before: {said}", patience.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.complaints(&last)),
            }
        }
    }

    /// Waits for the command to end by itself, well.
    ///
    /// # Errors
    /// It does not, or badly, or somebody interrupts.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            self.check_stop()?;
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(_)) => return Err(self.complaints("")),
                Ok(None) if Instant::now() > deadline => {
                    return Err(format!("still there after {} s", patience.as_secs()));
                }
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(format!("cannot wait for it: {error}")),
            }
        }
    }

    /// Ends the machine at once and hands out what its console had said and nobody had read.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.end();
        self.lines.iter().collect()
    }

    fn check_stop(&self) -> Result<(), String> {
        if self.stop.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Why the command ended.
    fn complaints(&mut self, last: &str) -> String {
        self.end();
        let mut text = String::new();
        if let Some(stderr) = self.stderr.take() {
            // What cannot be read is not reported.
            let _ = stderr.take(LONGEST).read_to_string(&mut text);
        }
        let text = if text.trim().is_empty() { last } else { &text };
        format!("it ended: {}", text.trim())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
