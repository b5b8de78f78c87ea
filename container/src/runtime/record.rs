//! `state.json`: what is written down of a container.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hooks::{self, Hook, HookState};

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
    /// How many of that group's parents, from the innermost, were made for it.
    #[serde(default)]
    pub(super) cgroup_made_parents: usize,
    pub(super) annotations: HashMap<String, String>,
    /// Its program's name, for messages.
    pub(super) program: String,
    pub(super) poststart: Vec<Hook>,
    pub(super) poststop: Vec<Hook>,
    /// Somebody has run these, or was about to and was killed.
    #[serde(default)]
    pub(super) poststop_begun: bool,
    /// Its first process; absent until that is ready.
    pub(super) init: Option<Process>,
}

impl Record {
    /// Runs the hooks that follow the start of its program.
    pub(super) fn run_poststart_hooks(&self) {
        self.run_hooks(&self.poststart, "running", self.init.map(|init| init.pid));
    }

    /// Runs the hooks that follow its deletion.
    pub(super) fn run_poststop_hooks(&self) {
        self.run_hooks(&self.poststop, "stopped", None);
    }

    fn run_hooks(&self, hooks: &[Hook], status: &'static str, pid: Option<i32>) {
        if hooks.is_empty() {
            return;
        }
        let Self { oci_version, id, bundle, annotations, .. } = self;
        hooks::run_all_and_warn(
            hooks,
            &HookState { oci_version, id, status, pid, bundle, annotations }.json(),
        );
    }
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
