//! A machine of carve's, run by its command.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::{Guests, MARK};
use crate::command::line;

/// What is measured.
#[derive(Debug)]
pub(super) struct Carve {
    pub(super) binary: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) guests: Guests,
}

impl Carve {
    /// `carve vm VERB`.
    pub(super) fn vm(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["vm", verb]);
        command
    }

    /// `carve vm boot` of a Linux that says that it runs and then does nothing.
    pub(super) fn boot_idle(&self, engine: &str, memory_mib: u32) -> Command {
        self.boot(&self.guests.idle, engine, memory_mib)
    }

    /// `carve vm boot` of a Linux with an initramfs.
    pub(super) fn boot(&self, initrd: &Path, engine: &str, memory_mib: u32) -> Command {
        let mut command = self.vm("boot");
        command.arg("--kernel").arg(&self.kernel).arg("--initrd").arg(initrd);
        command.args(["--cmdline", "quiet", "--engine", engine, "--memory", &memory_mib.to_string()]);
        command
    }

    /// Takes a snapshot of the machine behind a control socket.
    pub(super) fn snapshot(&self, socket: &Path, state: &Path, memory: &Path) -> Result<()> {
        let mut command = self.vm("snapshot");
        command.arg("--api-sock").arg(socket).arg("--state").arg(state).arg("--memory").arg(memory);
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", line(&command)))?;
        if !output.status.success() {
            bail!("{}: {}", line(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// A running command whose machine has its console on standard output. Ended when dropped.
pub(super) struct Machine {
    child: Child,
    output: BufReader<ChildStdout>,
    command: String,
}

impl Machine {
    /// Runs `command`.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        // A terminal or an empty file would end or disturb it; a pipe that nobody writes to does not.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot run {}", line(command)))?;
        let output = BufReader::new(child.stdout.take().context("it was asked for")?);
        Ok(Self { child, output, command: line(command) })
    }

    /// Process of the command.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the guest's mark.
    ///
    /// # Errors
    /// The machine ended without; what its command complained of is part of the message.
    pub(super) fn wait_for_mark(&mut self) -> Result<()> {
        let mut skipped = Vec::new();
        self.output.read_until(MARK, &mut skipped).context("cannot read the console")?;
        if skipped.last() == Some(&MARK) {
            return Ok(());
        }
        let mut complaints = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut complaints);
        }
        bail!(
            "{}: no mark from the guest: {}{}",
            self.command,
            String::from_utf8_lossy(&skipped),
            complaints.trim()
        )
    }

    /// The VMM's process: the command's child, or the command itself.
    pub(super) fn vmm_pid(&self) -> u32 {
        let pid = self.pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().find_map(|child| child.parse().ok()).unwrap_or(pid)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From the start of `command` to its guest's mark.
pub(super) fn time_to_mark(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let mut machine = Machine::start(command)?;
    machine.wait_for_mark()?;
    Ok(started.elapsed())
}
