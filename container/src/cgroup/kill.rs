//! Signals, and kills, everything in a group.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use super::{Cgroup, CgroupError, freeze, write};
use crate::sys;

/// How long a group may take to be frozen before it is signalled without that.
const FREEZE_PATIENCE: Duration = Duration::from_secs(1);

/// How often processes that came meanwhile are signalled as well, where the group cannot be frozen.
const ROUNDS: usize = 100;

/// Sends SIGKILL to every process in the group and below: through `cgroup.kill` (Linux 5.14) in the v2 tree, which
/// no fork can outrun, else as any signal.
pub(super) fn kill_all(group: &Cgroup) -> Result<(), CgroupError> {
    if let Some(dir) = group.v2_dir() {
        let file = dir.join("cgroup.kill");
        if file.exists() {
            write(&file, "1")?;
            send(group, &pids(group)?, libc::SIGKILL)?;
            freeze::let_die(group);
            return Ok(());
        }
    }
    signal_all(group, libc::SIGKILL)
}

/// Sends a signal to every process in the group and below, one by one. They are frozen meanwhile: no fork can outrun it.
/// A group that was frozen before stays so, unless the signal is to end it.
pub(super) fn signal_all(group: &Cgroup, signal: i32) -> Result<(), CgroupError> {
    let was_frozen = freeze::is_frozen(group)?;
    let own = Pid::from_raw(std::process::id().cast_signed());
    let frozen = was_frozen
        || (!own.is_some_and(|own| pids(group).is_ok_and(|pids| pids.contains(&own)))
            && freeze::freeze_within(group, FREEZE_PATIENCE).is_ok());
    let sent = if frozen { send(group, &pids(group)?, signal) } else { chase(group, signal) };
    if frozen && !was_frozen {
        freeze::thaw(group)?;
    }
    if signal == libc::SIGKILL {
        freeze::let_die(group);
    }
    sent
}

/// Sends a signal to all processes that are there, and to those that have come meanwhile.
fn chase(group: &Cgroup, signal: i32) -> Result<(), CgroupError> {
    let mut known = Vec::new();
    for _round in 0..ROUNDS {
        let mut new = pids(group)?;
        new.retain(|pid| !known.contains(pid));
        if new.is_empty() {
            break;
        }
        send(group, &new, signal)?;
        known.extend(new);
    }
    Ok(())
}

fn send(group: &Cgroup, pids: &[Pid], signal: i32) -> Result<(), CgroupError> {
    for pid in pids {
        match sys::kill(*pid, signal) {
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
