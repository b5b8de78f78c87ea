//! Why a control group cannot be made, used or removed.

use std::io;
use std::path::PathBuf;

/// A control group that cannot be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A path that is not absolute and plain.
    #[error("{path}: a cgroup path must be absolute, without '..', and below the root")]
    Path {
        /// The path given.
        path: PathBuf,
    },
    /// A file of the host that describes its cgroups cannot be read.
    #[error("cannot read {path}: {source}; cgroups cannot be found")]
    Detect {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A limit was asked for that this host cannot enforce.
    #[error(
        "linux.resources.{field} needs the cgroup controller {controller:?}, which this host does not offer; \
         enable it or do without this limit"
    )]
    MissingController {
        /// The limit.
        field: String,
        /// What would enforce it.
        controller: String,
    },
    /// The controller is there, and has no file for the limit.
    #[error(
        "linux.resources.{field}: the cgroup controller {controller:?} of this host has no {files}; do without this \
         limit, or use a kernel that has it"
    )]
    MissingFile {
        /// The limit.
        field: String,
        /// What would enforce it.
        controller: String,
        /// The files that were looked for.
        files: String,
    },
    /// The controller is there, and not for this part of the tree or for this user.
    #[error(
        "linux.resources.{field} needs the cgroup controller {controller:?} in {dir}: {reason}; have it delegated there \
         (owner of the directory, +{controller} in its parents' cgroup.subtree_control; systemd: Delegate=yes), or do \
         without this limit"
    )]
    NotDelegated {
        /// The limit.
        field: String,
        /// What would enforce it.
        controller: String,
        /// The directory that it cannot be had in.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// Somebody uses the group.
    #[error(
        "the cgroup {path} has {processes} processes in it already; give linux.cgroupsPath a group of its own, or end them"
    )]
    InUse {
        /// The group.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// The group is frozen, and nothing would run in it.
    #[error("the cgroup {path} exists and is frozen; thaw it, or choose another for linux.cgroupsPath")]
    Frozen {
        /// The group.
        path: PathBuf,
    },
    /// There is no controller that freezes.
    #[error("the cgroup {path} cannot be frozen: it is in neither a v1 freezer nor a v2 tree")]
    NoFreezer {
        /// The group.
        path: PathBuf,
    },
    /// A process of the group does not come to a halt.
    #[error(
        "the cgroup {dir} is not frozen after {seconds} s and was thawed again; a process may be waiting for the kernel"
    )]
    NotFrozen {
        /// The directory.
        dir: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The group is part of a threaded subtree.
    #[error(
        "the cgroup {dir} is {kind:?}: it is in a threaded part of the tree, where no process can be put; choose \
         another for linux.cgroupsPath"
    )]
    Threaded {
        /// The directory.
        dir: PathBuf,
        /// Its cgroup.type.
        kind: String,
    },
    /// A limit that is not supported at all.
    #[error("linux.resources.{field}: {reason}")]
    Unsupported {
        /// The limit.
        field: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The group's directory cannot be made.
    #[error("cannot create the cgroup {dir}: {source}")]
    Create {
        /// The directory.
        dir: PathBuf,
        /// Why it cannot be made.
        source: io::Error,
    },
    /// A value was refused by the kernel.
    #[error("cannot write {value:?} to {file}: {source}")]
    Write {
        /// The file.
        file: PathBuf,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The device rules could not be attached.
    #[error("cannot attach the device rules to {dir}: {source}")]
    Devices {
        /// The group's directory.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process of the group cannot be sent a signal.
    #[error("cannot signal process {pid} of the cgroup {path}: {source}")]
    Kill {
        /// The process.
        pid: i32,
        /// The group.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the group cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The group still has processes after all this time of killing them, or cannot be removed for another reason.
    #[error("cannot remove the cgroup {dir}: {source}; processes left in it: {pids:?}")]
    Remove {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said last.
        source: io::Error,
        /// The processes still there.
        pids: Vec<i32>,
    },
}
