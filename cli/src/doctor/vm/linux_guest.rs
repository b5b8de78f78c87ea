//! The guest kernel, with the agent that examines its machine; then a snapshot of it, and a machine that goes on from
//! there.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use agent::self_test::{BLOCK, Line, VARIABLE, VSOCK_PORT};

use super::machine::carve;
use super::report::Check;
use super::site::Site;

/// How much the guest's clock may lose on the way from one machine to the next: its lines take their time on a busy host.
const LOSS_MS: i128 = 2000;
/// The root of the machine's jail.
const JAIL: &str = "jail";
/// The directory of the socket device's sockets.
const SOCKETS: &str = "sockets";
/// RAM in MiB.
const MEMORY: &str = "128";
/// Ticks before the snapshot, so that it is of a machine that has been running.
const TICKS: u64 = 3;

/// A machine to be.
pub(super) struct LinuxGuest<'a> {
    pub(super) engine: &'static str,
    pub(super) cpus: u8,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// Its network card's tap, or why it has none.
    pub(super) tap: Result<&'a str, &'a str>,
    /// How long each step may take.
    pub(super) patience: Duration,
    /// Where it runs.
    pub(super) site: &'a Site,
}

impl LinuxGuest<'_> {
    /// Boots it and adds what is found to `checks`.
    pub(super) fn examine(&self, checks: &mut Vec<Check>) {
        if let Err(reason) = self.tap {
            checks.push(Check::skipped(self.engine, "network", reason));
        }
        if let Err((what, problem)) = self.try_examine(checks) {
            checks.push(Check::new(self.engine, what, Err(problem)));
        }
    }

    /// The error is that of the step that all others need.
    fn try_examine(&self, checks: &mut Vec<Check>) -> Result<(), (&'static str, String)> {
        let disk = self.path("disk");
        let pattern: Vec<u8> = (0..BLOCK).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let whole = [&pattern[..], &[0; BLOCK * 15]].concat();
        fs::write(&disk, whole).map_err(|e| ("disk", format!("cannot write {}: {e}", disk.display())))?;

        let _life = self.wait_for_guest().map_err(|e| ("vsock", e))?;
        let started = self.site.start(&mut self.boot(&disk));
        let mut machine = started.map_err(|e| ("boot", e))?;
        let mut line = machine.wait_for(self.patience, Line::parse).map_err(|e| ("boot", e))?;
        let booted = machine.age();
        checks.push(self.ok("boot", "from the command to the agent's first finding").took(booted));
        while let Line::Check { name, finding, took_us } = line {
            let finding = if name == "cpus" { self.judge_cpus(finding) } else { finding };
            checks.push(Check::new(self.engine, &name, finding).took(Duration::from_micros(took_us)));
            line = machine.wait_for(self.patience, Line::parse).map_err(|e| ("self-test", e))?;
        }
        let skew = skew_ms(&line);
        // A kernel that starts slowly loses ticks until it has found its clock; the agent sets that of a machine with an app.
        let lost_at_most = booted.as_millis().cast_signed().max(LOSS_MS);
        checks.push(self.clock("clock", skew, 0, lost_at_most));
        let ticked = machine.wait_for(self.patience, |line| tick(line).filter(|tick| *tick >= TICKS));
        let ticked = ticked.map_err(|e| ("ticks", e))?;

        let took = self.take_snapshot().map_err(|e| ("snapshot", e))?;
        checks.push(self.ok("snapshot", "128 MiB, paused, written").took(took));
        let last = machine.kill().iter().filter_map(|line| tick(line)).max().unwrap_or(ticked);
        checks.push(self.written(&disk, &pattern));

        let copy = self.start_copy().map_err(|e| ("restore", e))?;
        let goes_on = format!(
            "tick {} of a new machine after {last} of the old one; from the command to it",
            copy.tick
        );
        let goes_on = if copy.tick > last { Ok(goes_on) } else { Err(goes_on) };
        checks.push(Check::new(self.engine, "restore", goes_on).took(copy.took));
        checks.push(self.clock("clock after it", copy.skew, skew, LOSS_MS));
        let other = self.start_copy().map_err(|e| ("another copy", e))?;
        checks.push(Check::new(self.engine, "random numbers", judge_random(&copy.number, &other.number)));
        Ok(())
    }

    /// Where the guest's connection arrives by whose end it learns that it is a copy. It waits there unanswered.
    fn wait_for_guest(&self) -> Result<UnixListener, String> {
        let (directory, path) = (self.path(SOCKETS), self.vsock(&format!("_{VSOCK_PORT}")));
        let listen = || {
            fs::create_dir(&directory)?;
            let listener = UnixListener::bind(&path)?;
            // The VMM's user has to come here and write.
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        listen().map_err(|e: io::Error| format!("cannot listen at {}: {e}", path.display()))
    }

    /// The socket device's socket, or the one for a port of it.
    fn vsock(&self, port: &str) -> PathBuf {
        self.path(SOCKETS).join(format!("v{port}"))
    }

    /// Starts a machine from the snapshot, hears what it says first, and ends it.
    fn start_copy(&self) -> Result<Copy, String> {
        let mut machine = self.site.start(&mut self.restore())?;
        let (mut first, mut drawn) = (None, None);
        loop {
            match machine.wait_for(self.patience, Line::parse)? {
                Line::Check { finding, .. } => drawn = Some(finding?),
                line @ Line::Tick { number, .. } => {
                    first.get_or_insert((number, skew_ms(&line), machine.age()));
                }
            }
            if let (Some((tick, skew, took)), Some(number)) = (first, &drawn) {
                return Ok(Copy { tick, skew, took, number: number.clone() });
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.dir().join(format!("{}-{name}", self.engine))
    }

    fn ok(&self, what: &str, finding: &str) -> Check {
        Check::new(self.engine, what, Ok(finding.to_owned()))
    }

    fn boot(&self, disk: &Path) -> Command {
        let cpus = self.cpus.to_string();
        let words = format!("quiet {VARIABLE}=1");
        let mut boot = carve(&["vm", "boot", "--engine", self.engine, "--cpus", &cpus, "--memory", MEMORY]);
        boot.args(["--cmdline", &words, "--rng"]).arg("--kernel").arg(&self.kernel);
        boot.arg("--initrd").arg(&self.initramfs).arg("--disk").arg(disk);
        boot.arg("--vsock").arg(self.vsock("")).arg("--api-sock").arg(self.path("api"));
        boot.arg("--jail-root").arg(self.path(JAIL));
        if let Ok(tap) = self.tap {
            boot.arg("--net").arg(format!("tap={tap}"));
        }
        boot
    }

    /// Takes it, and says how long that took.
    fn take_snapshot(&self) -> Result<Duration, String> {
        let start = Instant::now();
        let mut command = carve(&["vm", "snapshot"]);
        command.arg("--api-sock").arg(self.path("api"));
        // The VMM finds files in its jail's root.
        self.site.start(files(&mut command, Path::new("/")))?.wait(self.patience)?;
        Ok(start.elapsed())
    }

    fn restore(&self) -> Command {
        // The old machine's socket may still be there.
        let _ = fs::remove_file(self.vsock(""));
        let mut command = carve(&["vm", "restore"]);
        files(&mut command, &self.path(JAIL));
        command
    }

    fn judge_cpus(&self, finding: Result<String, String>) -> Result<String, String> {
        let expected = format!("{},", self.cpus);
        match finding {
            Ok(text) if !text.starts_with(&expected) => Err(format!("{text}, instead of {}", self.cpus)),
            finding => finding,
        }
    }

    /// Whether the guest's clock is where it was or should be.
    fn clock(&self, what: &str, skew: i128, expected: i128, limit: i128) -> Check {
        let finding = format!("{skew} ms from the host's, the line's way included");
        let finding = if (skew - expected).abs() <= limit {
            Ok(finding)
        } else {
            Err(format!("{finding}; at most {limit} ms from {expected} are expected"))
        };
        Check::new(self.engine, what, finding)
    }

    /// Whether the host's file has what the guest wrote and flushed.
    fn written(&self, disk: &Path, pattern: &[u8]) -> Check {
        let found = fs::read(disk).map_err(|e| e.to_string()).and_then(|bytes| {
            let expected = pattern.iter().map(|byte| !byte);
            let is_there = bytes.iter().skip(BLOCK).take(BLOCK).copied().eq(expected);
            if is_there {
                Ok("what the guest wrote is there".to_owned())
            } else {
                Err("not what the guest wrote".to_owned())
            }
        });
        Check::new(self.engine, "disk's file", found)
    }
}

/// Adds the snapshot's files, which are in `dir`.
fn files<'c>(command: &'c mut Command, dir: &Path) -> &'c mut Command {
    command.arg("--state").arg(dir.join("state")).arg("--memory").arg(dir.join("memory"))
}

/// What a machine that was started from the snapshot says first.
struct Copy {
    tick: u64,
    /// Milliseconds by which its clock was ahead of the host's.
    skew: i128,
    /// From the command to the tick.
    took: Duration,
    /// A random number, and what the guest says about it.
    number: String,
}

/// Whether two copies draw different numbers.
fn judge_random(one: &str, other: &str) -> Result<String, String> {
    match (one.split(' ').next(), other.split(' ').next()) {
        (Some(one), Some(other)) if one != other => {
            Ok(format!("two copies draw different ones: {one} and {other}"))
        }
        _ => Err(format!("two copies draw the same: {one}; {other}")),
    }
}

/// By how many milliseconds the guest's clock is ahead of the host's, by a line that is a tick.
fn skew_ms(line: &Line) -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match line {
        Line::Tick { wall_ms, .. } => i128::from(*wall_ms) - now.as_millis().cast_signed(),
        Line::Check { .. } => 0,
    }
}

/// The number of a line that is a tick.
fn tick(line: &str) -> Option<u64> {
    match Line::parse(line)? {
        Line::Tick { number, .. } => Some(number),
        Line::Check { .. } => None,
    }
}
