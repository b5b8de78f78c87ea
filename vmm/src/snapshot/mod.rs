//! A machine in two files: its state, and its memory.
//!
//! The state is small: one line that says what it is ([`format`]), then JSON ([`Snapshot`]). The memory is an image of
//! the guest's RAM with holes where the guest never wrote ([`memory`]); a machine that starts from it maps it
//! copy-on-write, so a start takes as long however large it is, and clones share what they do not change.
//!
//! ```text
//!   RunningVm, paused ──snapshot──► STATE, MEMORY ──Snapshot::read──► Snapshot ──Vm::restore──► Vm
//! ```

pub(crate) mod format;
pub(crate) mod memory;
mod overrides;

pub use overrides::{NoSuchDevice, Overrides};

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::VmConfig;
use crate::cpu::Saved;
use crate::cpu::host_cpu::HostCpu;
use crate::legacy::serial::SavedSerial;
use crate::virtio::SavedDevice;

/// How much of the memory is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum SnapshotKind {
    /// All of it.
    #[default]
    Full,
    /// What has changed since the snapshot that the machine was started from, or with dirty-page tracking since the last
    /// full one: to be laid over that one's memory by [`rebase`] before a machine can start from it.
    Diff,
}

/// Why there is no snapshot, or why a machine cannot start from one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was to be done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is not a snapshot's state: {problem}; name the state file, which `snapshot` wrote beside the memory"
    )]
    NotASnapshot {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// It was written by another version.
    #[error(
        "{path} is a snapshot of format {found}; this version reads format {}: take a new one",
        format::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It is not what was written.
    #[error("the snapshot {path} is damaged: {problem}; take a new one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It was taken on another kind of CPU.
    #[error(
        "the snapshot was taken on a {there}, this is a {here}: its guest counts on the other CPU's features; take one here"
    )]
    Cpu {
        /// The CPU it was taken on.
        there: String,
        /// This one.
        here: String,
    },
    /// The memory does not belong to the state.
    #[error(
        "the memory {path} has {found} bytes where the snapshot has {expected}: name the memory that was written with this state"
    )]
    MemorySize {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The machine's.
        expected: u64,
    },
    /// The memory is not complete.
    #[error(
        "the memory {0} holds only what had changed: lay it over the memory of the snapshot before by `carve vm rebase`"
    )]
    IsDiff(PathBuf),
    /// It cannot be laid over that memory.
    #[error(
        "{path} does not hold what has changed since {base}: name the memory of a diff snapshot, and that of the full one it followed"
    )]
    NotADiff {
        /// The diff.
        path: PathBuf,
        /// The memory it was to be laid over.
        base: PathBuf,
    },
    /// Nothing to compare with.
    #[error(
        "nothing is known about what has changed: take a full snapshot first, of a machine with dirty-page tracking"
    )]
    NoBase,
    /// A device's state lives elsewhere.
    #[error("this machine cannot be put into a snapshot: {0}")]
    Device(&'static str),
    /// A name for a device that is not there.
    #[error(transparent)]
    Override(#[from] NoSuchDevice),
    /// The vCPUs or their engine.
    #[error(transparent)]
    Cpus(#[from] crate::cpu::CpuError),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] crate::kvm::KvmError),
}

impl SnapshotError {
    pub(crate) fn file<E: Into<std::io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source: source.into() }
    }
}

/// All of a machine but its memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The machine, with the engine that it ran on. Names of disks, taps and sockets may be changed before a start.
    pub config: VmConfig,
    /// When it was taken: nanoseconds since 1970.
    pub taken_at_ns: u64,
    /// The host's CPU, as it calls itself.
    pub cpu_model: String,
    pub(crate) platform: Saved,
    pub(crate) cpus: Vec<Saved>,
    pub(crate) devices: Vec<SavedDevice>,
    pub(crate) serial: Option<SavedSerial>,
}

impl Snapshot {
    /// Reads a snapshot's state.
    ///
    /// # Errors
    /// The file cannot be read, is something else, of another version or damaged, or was taken on another CPU.
    pub fn read(path: &Path) -> Result<Self, SnapshotError> {
        Self::read_for(&HostCpu::read(), path)
    }

    /// The same on a host with this CPU.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub(crate) fn read_for(cpu: &HostCpu, path: &Path) -> Result<Self, SnapshotError> {
        let snapshot: Self = format::read(path)?;
        if snapshot.cpu_model != cpu.model {
            return Err(SnapshotError::Cpu { there: snapshot.cpu_model, here: cpu.model.clone() });
        }
        Ok(snapshot)
    }

    /// Nanoseconds since it was taken; none where the host's clock says that it is yet to come.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        wall_clock_ns().saturating_sub(self.taken_at_ns)
    }
}

/// Nanoseconds since 1970.
pub(crate) fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Lays what a diff snapshot holds over the memory of the snapshot before it, which then is the memory of the later one.
///
/// # Errors
/// The files cannot be read or written, or differ in size.
pub fn rebase(base: &Path, diff: &Path) -> Result<(), SnapshotError> {
    memory::rebase(base, diff)
}
