//! The mount namespace in which everything is measured. crun refuses hosts with hybrid cgroups, so the unified hierarchy is hidden
//! there, from all runtimes alike.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;

/// Runs this program once more with other arguments, in a mount namespace of its own.
pub(super) fn run_in_its_own(args: &[OsString]) -> Result<()> {
    let own = std::env::current_exe().context("cannot find out which program this is")?;
    run(Command::new("unshare").arg("--mount").arg(own).args(args))
}

/// Hides cgroup v2 where v1 is mounted too.
pub(super) fn hide_unified() -> Result<()> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    unified_beside_v1(&text).map_or(Ok(()), |unified| run(Command::new("umount").arg(unified)))
}

/// Where cgroup v2 is mounted beside v1 (proc_pid_mountinfo(5)).
fn unified_beside_v1(mountinfo: &str) -> Option<&str> {
    let place_of = |wanted: &str| {
        mountinfo.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let is_wanted = filesystem.split(' ').next() == Some(wanted);
            is_wanted.then(|| mount.split(' ').nth(4)).flatten()
        })
    };
    place_of("cgroup").and_then(|_| place_of("cgroup2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "48 47 0:28 / /sys/fs/cgroup/cpu rw - cgroup none rw,cpu\n";
    const V2: &str = "49 47 0:29 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";

    #[test]
    fn the_unified_hierarchy_is_hidden_only_beside_v1() {
        assert_eq!(unified_beside_v1(&format!("{V1}{V2}")), Some("/sys/fs/cgroup/unified"));
        assert_eq!(unified_beside_v1(V1), None);
        assert_eq!(unified_beside_v1(V2), None);
    }
}
