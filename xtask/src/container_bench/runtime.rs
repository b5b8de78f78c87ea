//! The runtimes, called in one way.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::bundle::Bundles;
use crate::command::line;

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Runtime {
    Carve,
    Crun,
    Runc,
}

impl Runtime {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Carve => "carve",
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }
}

/// What is measured, and how often.
#[derive(Debug)]
pub(super) struct Bench {
    carve: PathBuf,
    pub(super) bundles: Bundles,
    /// Those that work here, carve first.
    pub(super) runtimes: Vec<Runtime>,
    pub(super) samples: u32,
    pub(super) seed: u64,
    /// How many ids were given out.
    ids: Cell<u32>,
}

impl Bench {
    /// Has each runtime run a container once, which is not counted and fills the page cache. Returns what does not work too,
    /// with its message.
    ///
    /// # Errors
    /// It is carve that does not.
    pub(super) fn with_what_works(
        carve: PathBuf,
        bundles: Bundles,
        samples: u32,
        seed: u64,
    ) -> Result<(Self, Vec<String>)> {
        let runtimes = vec![Runtime::Carve];
        let mut bench = Self { carve, bundles, runtimes, samples, seed, ids: Cell::new(0) };
        bench.run_once(Runtime::Carve, &bench.bundles.ends)?;
        let mut absent = Vec::new();
        for peer in [Runtime::Crun, Runtime::Runc] {
            match bench.run_once(peer, &bench.bundles.ends) {
                Ok(_) => bench.runtimes.push(peer),
                Err(error) => absent.push(format!("{}: {error:#}", peer.name())),
            }
        }
        Ok((bench, absent))
    }

    /// An id that no other container has.
    pub(super) fn id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("bench-{}-{}", std::process::id(), self.ids.get())
    }

    /// `RUNTIME VERB`, with a state directory of its own and no standard input or output.
    pub(super) fn command(&self, runtime: Runtime, verb: &str) -> Command {
        let mut command = match runtime {
            Runtime::Carve => Command::new(&self.carve),
            peer => Command::new(peer.name()),
        };
        command.args((runtime == Runtime::Carve).then_some("oci"));
        command.arg("--root").arg(self.bundles.dir.join("state").join(runtime.name())).arg(verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// `RUNTIME run` of a bundle, under an id.
    pub(super) fn run(&self, runtime: Runtime, bundle: &Path, id: &str) -> Command {
        let mut command = self.command(runtime, "run");
        command.arg("--bundle").arg(bundle).arg(id);
        command
    }

    /// Runs a container whose program ends at once; returns how long it took.
    pub(super) fn run_once(&self, runtime: Runtime, bundle: &Path) -> Result<Duration> {
        let id = self.id();
        let took = time(&mut self.run(runtime, bundle, &id));
        if took.is_err() {
            self.delete(runtime, &id);
        }
        took
    }

    /// Deletes a container, whatever it does.
    pub(super) fn delete(&self, runtime: Runtime, id: &str) {
        // It may have gone by itself.
        let _ = self.command(runtime, "delete").args(["--force", id]).output();
    }
}

/// How long a command takes that has to succeed.
pub(super) fn time(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let child = spawn(command)?;
    end(child, command)?;
    Ok(started.elapsed())
}

/// Starts a command.
pub(super) fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot run {}", line(command)))
}

/// Waits for a command's end, which has to be a success.
pub(super) fn end(child: Child, command: &Command) -> Result<()> {
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {}", line(command)))?;
    if !output.status.success() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", line(command), output.status, complaints.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_its_complaints() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no cgroups >&2; exit 3"]).stderr(Stdio::piped());
        let error = time(&mut command).expect_err("failed").to_string();
        for part in ["sh -c", "exit status: 3", "no cgroups"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
