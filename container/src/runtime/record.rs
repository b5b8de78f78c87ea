//! `state.json`: what is written down of a container.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What cannot be asked of the kernel later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The specification's version that the configuration follows.
    pub(super) oci_version: String,
    pub(super) id: String,
    /// The bundle's directory.
    pub(super) bundle: PathBuf,
    /// The root filesystem's.
    pub(super) rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub(super) created: String,
    /// The user who created it.
    pub(super) owner: u32,
    /// Its group's path in each cgroup tree.
    pub(super) cgroup: PathBuf,
    pub(super) annotations: HashMap<String, String>,
    /// Its first process; absent until that is ready.
    pub(super) init: Option<Process>,
}

/// A process, whose id alone may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    /// Its id in the pid namespace of whoever created it.
    pub(super) pid: i32,
    /// When it was started, in clock ticks since the host was booted: field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub(super) start_time: u64,
}
