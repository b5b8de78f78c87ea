//! Being told that a group ran out of memory: an eventfd at v1's `memory.oom_control`, changes of v2's `memory.events`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::figures::keyed;
use super::{Cgroup, CgroupError, write};

/// Waits for a group to run out of memory.
#[derive(Debug)]
pub struct OomWatch {
    /// Readable when something may have happened.
    fd: OwnedFd,
    /// Where the number of kills is counted, and how many there were.
    file: PathBuf,
    key: &'static str,
    seen: u64,
}

impl OomWatch {
    /// For this group; `None` where nobody accounts for its memory.
    pub(super) fn new(group: &Cgroup) -> Result<Option<Self>, CgroupError> {
        let (fd, file) = if let Some(dir) = group.v1_dir("memory") {
            (register(dir)?, dir.join("memory.oom_control"))
        } else if let Some(file) =
            group.v2_dir().map(|dir| dir.join("memory.events")).filter(|file| file.exists())
        {
            (watch(&file).map_err(|errno| read_error(&file, errno.into()))?, file)
        } else {
            return Ok(None);
        };
        let mut watch = Self { fd, file, key: "oom_kill", seen: 0 };
        watch.seen = watch.count();
        Ok(Some(watch))
    }

    /// Whether it has happened since it was asked for last. Never waits.
    pub fn happened(&mut self) -> bool {
        let mut told = [0; 4096];
        // All that was told until now is one event.
        while matches!(rustix::io::read(&self.fd, &mut told), Ok(length) if length > 0) {}
        let before = self.seen;
        self.seen = self.count();
        self.seen > before
    }

    /// A group that is gone counts no further.
    fn count(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        keyed(&text, self.key).unwrap_or(self.seen)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// v1: the descriptor to be told by, and that of the file, go into one line (admin-guide/cgroup-v1/memory.rst, 9).
fn register(dir: &Path) -> Result<OwnedFd, CgroupError> {
    let file = dir.join("memory.oom_control");
    let control = File::open(&file).map_err(|source| read_error(&file, source))?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let fd = eventfd(0, flags).map_err(|errno| read_error(&file, errno.into()))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    write(&dir.join("cgroup.event_control"), &line)?;
    Ok(fd)
}

fn watch(file: &Path) -> Result<OwnedFd, Errno> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, file, inotify::WatchFlags::MODIFY)?;
    Ok(fd)
}

fn read_error(file: &Path, source: io::Error) -> CgroupError {
    CgroupError::Read { file: file.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_kill_is_told_once() {
        let (dir, group) = fake::v2(&[("memory.events", "low 0\noom_kill 1\n")]);
        let file = dir.path().join("memory.events");
        let mut watch = OomWatch::new(&group).unwrap().unwrap();
        assert!(!watch.happened());
        fs::write(&file, "low 7\noom_kill 1\n").unwrap();
        assert!(!watch.happened(), "something else has changed");
        fs::write(&file, "low 7\noom_kill 2\n").unwrap();
        assert!(watch.happened());
        assert!(!watch.happened());
    }

    #[test]
    fn without_accounting_there_is_nothing_to_watch() {
        assert!(OomWatch::new(&fake::nowhere()).unwrap().is_none());
    }
}
