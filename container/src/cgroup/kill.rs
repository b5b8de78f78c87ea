//! Signals, and kills, everything in a group.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Pid;

use super::{Cgroup, CgroupError, write};
use crate::sys;

/// Sends SIGKILL to every process in the group and below: through `cgroup.kill` (Linux 5.14) in the v2 tree, which
/// no fork can outrun, else one by one.
pub(super) fn kill_all(group: &Cgroup) -> Result<(), CgroupError> {
    if let Some(dir) = group.v2_dir() {
        let file = dir.join("cgroup.kill");
        if file.exists() {
            write(&file, "1")?;
        }
    }
    signal_all(group, libc::SIGKILL)
}

/// Sends a signal to every process in the group and below, one by one.
pub(super) fn signal_all(group: &Cgroup, signal: i32) -> Result<(), CgroupError> {
    for pid in pids(group)? {
        match sys::kill(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                let (pid, path) = (pid.as_raw_nonzero().get(), group.path().to_owned());
                return Err(CgroupError::Kill { pid, path, source: errno.into() });
            }
        }
    }
    Ok(())
}

/// The processes in the group and below, in all trees.
pub(super) fn pids(group: &Cgroup) -> Result<Vec<Pid>, CgroupError> {
    let mut pids = Vec::new();
    for dir in group.dirs() {
        collect(dir, &mut pids).map_err(|source| CgroupError::Read { file: dir.to_owned(), source })?;
    }
    pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    pids.dedup();
    Ok(pids)
}

fn collect(dir: &Path, pids: &mut Vec<Pid>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    // A group that vanishes meanwhile (ENODEV, ENOENT) has no processes.
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // A process of another pid namespace is listed as 0.
    pids.extend(listed.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
    Ok(())
}
