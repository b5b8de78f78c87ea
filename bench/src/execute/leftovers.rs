//! What an ended instance must not leave behind: processes, cgroups, mounts, network interfaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::now_ns;

/// How long the kernel may take to let go of things: a network namespace's interfaces go some time after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to look for.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// The instance's name, by which its mounts are found.
    pub name: String,
    /// Its processes.
    pub pids: Vec<u32>,
    /// Its cgroup's directories.
    pub cgroups: Vec<PathBuf>,
    /// The network interfaces there were before it.
    pub interfaces_before: BTreeSet<String>,
}

/// The host's network interfaces, bridges apart: a bridge is shared by instances and outlives them.
pub(super) fn interfaces() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter(|entry| !entry.path().join("bridge").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

impl Census {
    /// Waits for everything to be gone and names what is not.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let until_ns = now_ns() + u64::try_from(PATIENCE.as_nanos()).expect("two seconds");
        loop {
            let left = self.look();
            if left.is_empty() || now_ns() >= until_ns {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn look(&self) -> Vec<String> {
        let processes = self.pids.iter().filter(|pid| runs(**pid));
        let mut left: Vec<String> = processes.map(|pid| format!("process {pid}")).collect();
        let cgroups = self.cgroups.iter().filter(|path| path.exists());
        left.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts_of(&mounts, &self.name).into_iter().map(|point| format!("mount {point}")));
        left.extend(interfaces().difference(&self.interfaces_before).map(|name| format!("interface {name}")));
        left
    }
}

/// Whether a process is there and has not ended. One that has ended and waits to be reaped holds nothing; when that
/// happens is up to its parent, for orphans the host's init.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// The mount points whose line in `mountinfo` names the instance.
fn mounts_of(mountinfo: &str, name: &str) -> Vec<String> {
    let named = mountinfo.lines().filter(|line| !name.is_empty() && line.contains(name));
    named.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_mounts_by_name() {
        let mountinfo = "22 1 0:5 / /proc rw - proc proc rw\n\
            40 1 0:44 / /run/carve/bench-1-2/merged rw - overlay overlay rw\n";
        assert_eq!(mounts_of(mountinfo, "bench-1-2"), ["/run/carve/bench-1-2/merged"]);
        assert!(mounts_of(mountinfo, "bench-1-3").is_empty());
        assert!(mounts_of(mountinfo, "").is_empty());
    }

    #[test]
    fn a_clean_end_leaves_nothing_and_waits_for_nothing() {
        let census = Census { interfaces_before: interfaces(), ..Census::default() };
        assert!(census.look().is_empty());
    }

    #[test]
    fn a_process_that_only_waits_to_be_reaped_has_gone() {
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        let pid = child.id();
        while runs(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "nobody has reaped it yet");
        child.wait().expect("reaped");
    }

    #[test]
    fn names_what_is_left() {
        let me = std::process::id();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let census = Census {
            pids: vec![me, u32::MAX],
            cgroups: vec![dir.path().to_owned()],
            interfaces_before: interfaces(),
            ..Census::default()
        };
        assert_eq!(census.look(), [format!("process {me}"), format!("cgroup {}", dir.path().display())]);
    }
}
