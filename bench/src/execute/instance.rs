//! One running command: the foreground `carve run` of an instance, or a peer's. It is ended when dropped.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::ExecuteError;
use super::poll::{system, wait};
use crate::clock::now_ns;

/// How long a command may take to end after SIGINT.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How much of a log is quoted in a message, in characters.
const QUOTED: usize = 600;

/// A running command.
pub(super) struct Instance {
    child: Child,
    pidfd: OwnedFd,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// The monotonic clock before it was executed, in nanoseconds.
    pub spawn_ns: u64,
}

impl Instance {
    /// Executes `argv`, confined to the CPUs in `pin`, in a process group of its own so that Ctrl-C at the harness's
    /// terminal reaches the harness alone. Its output goes to the file `log`; with `piped`, stdout is to be taken.
    pub(super) fn spawn(
        argv: &[String],
        pin: Option<&[usize]>,
        log: &Path,
        piped: bool,
    ) -> Result<Self, ExecuteError> {
        let failed = |source| ExecuteError::File { doing: "make", path: log.to_owned(), source };
        let file = File::create(log).map_err(failed)?;
        let stdout = if piped { Stdio::piped() } else { file.try_clone().map_err(failed)?.into() };
        let program = argv.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(argv.get(1..).unwrap_or_default()).stdin(Stdio::null()).stdout(stdout).stderr(file);
        command.process_group(0);
        let pinned = Pinned::to(pin)?;
        let spawn_ns = now_ns();
        let spawned = command.spawn();
        drop(pinned);
        let child = spawned.map_err(|source| ExecuteError::Spawn { program, source })?;
        let pidfd = open(&child)?;
        Ok(Self { child, pidfd, log: log.to_owned(), ended: None, spawn_ns })
    }

    /// The process id of the command.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the command ends.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pipe of its standard output, once.
    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Asks the command to end, as Ctrl-C would.
    pub(super) fn interrupt(&self) -> Result<(), ExecuteError> {
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .map_err(|e| system("interrupt the command")(e.into()))
    }

    /// Its exit status if it ends within `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ExecuteError> {
        if self.ended.is_none() {
            self.ended = wait_for_end(&mut self.child, limit)?;
        }
        Ok(self.ended)
    }

    /// The end of what it wrote, on one line, for a message.
    pub(super) fn last_words(&self) -> String {
        let text =
            fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let skipped = line.chars().count().saturating_sub(QUOTED);
        if line.is_empty() { "it wrote nothing".to_owned() } else { line.chars().skip(skipped).collect() }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // On a way out by error. What cannot be ended here is named by the next command's own clean-up.
        if matches!(self.wait(Duration::ZERO), Ok(None)) {
            let _ = self.interrupt();
            if !matches!(self.wait(STOP_LIMIT), Ok(Some(_))) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// The exit status of `child` if it ends within `limit`.
pub(super) fn wait_for_end(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, ExecuteError> {
    let waiting = system("wait for a command");
    if let Some(status) = child.try_wait().map_err(waiting)? {
        return Ok(Some(status));
    }
    let pidfd = open(child)?;
    let until_ns = now_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    wait(&mut [PollFd::new(&pidfd, PollFlags::IN)], until_ns)?;
    child.try_wait().map_err(system("wait for a command"))
}

fn open(child: &Child) -> Result<OwnedFd, ExecuteError> {
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(|e| system("watch a command")(e.into()))
}

/// Confines this thread, and what it spawns, to some CPUs until dropped.
struct Pinned {
    before: Option<CpuSet>,
}

impl Pinned {
    fn to(cpus: Option<&[usize]>) -> Result<Self, ExecuteError> {
        let Some(cpus) = cpus else { return Ok(Self { before: None }) };
        let failed = |e: rustix::io::Errno| ExecuteError::System {
            doing: "confine an instance to the CPUs asked for; does this host have them?",
            source: io::Error::from(e),
        };
        let before = sched_getaffinity(None).map_err(failed)?;
        let mut wanted = CpuSet::new();
        for &cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
            wanted.set(cpu);
        }
        sched_setaffinity(None, &wanted).map_err(failed)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The set was this thread's own a moment ago; nothing useful is left to do if it no longer is allowed.
            let _ = sched_setaffinity(None, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, pin: Option<&[usize]>) -> (tempfile::TempDir, Instance) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let argv = ["sh", "-c", script].map(str::to_owned);
        let instance = Instance::spawn(&argv, pin, &dir.path().join("log"), false).expect("sh runs");
        (dir, instance)
    }

    #[test]
    fn ends_by_itself_or_when_interrupted() {
        let (_dir, mut instance) = shell("exit 4", None);
        let status = instance.wait(Duration::from_secs(20)).expect("waits").expect("ends");
        assert_eq!(status.code(), Some(4));
        let (_dir, mut instance) = shell("exec sleep 30", None);
        assert_eq!(instance.wait(Duration::from_millis(10)).expect("waits"), None);
        instance.interrupt().expect("interrupted");
        assert!(instance.wait(Duration::from_secs(20)).expect("waits").is_some());
    }

    #[test]
    fn nothing_runs_on_after_a_drop() {
        let (_dir, instance) = shell("exec sleep 30", None);
        let pid = instance.pid();
        drop(instance);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn quotes_what_the_command_said_last() {
        let (_dir, mut instance) = shell("echo out; echo err >&2", None);
        instance.wait(Duration::from_secs(20)).expect("waits");
        assert_eq!(instance.last_words(), "out err");
    }

    #[test]
    fn confines_the_command_and_not_the_harness() {
        let before = sched_getaffinity(None).expect("readable");
        let (_dir, mut instance) = shell("grep Cpus_allowed_list /proc/self/status", Some(&[0]));
        instance.wait(Duration::from_secs(20)).expect("waits");
        assert_eq!(instance.last_words(), "Cpus_allowed_list: 0");
        let after = sched_getaffinity(None).expect("readable");
        assert_eq!(before.count(), after.count());
    }
}
