//! Removes a group, however often it is asked to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cgroup, CgroupError, kill};

/// How long processes may take to be gone after they were killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes the group's directories in all trees, killing what is left in them, and then those of its parents that were
/// made for it, if they are empty.
pub(super) fn remove(group: &Cgroup) -> Result<(), CgroupError> {
    group.dirs().try_for_each(|dir| remove_dir(group, dir))?;
    // Also where the group was removed before, or never made: whoever did that may have been killed.
    for dir in group.dirs().chain(group.elsewhere.iter().map(PathBuf::as_path)) {
        for parent in dir.ancestors().skip(1).take(group.made_parents) {
            match fs::remove_dir(parent) {
                // Removed by others, or never made, which does not say that those above it are not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Others use it.
                Err(_) => break,
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

fn remove_dir(group: &Cgroup, dir: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        match remove_tree(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {}
            Err(source) => {
                let pids = kill::pids(group).unwrap_or_default();
                let pids = pids.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect();
                return Err(CgroupError::Remove { dir: dir.to_owned(), source, pids });
            }
        }
        group.kill_all()?;
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Removes a directory after those below it. Control files go with their directory.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // The kernel says EBUSY for a group with groups below it, a plain filesystem ENOTEMPTY.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty) => {}
        result => return result,
    }
    let below: Vec<_> = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?.filter_map(Result::ok).collect(),
    };
    for entry in below {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
