//! The program's terminal: a new one of the container's own /dev/pts (pty(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, Uid, fchown, fstatfs, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::tcsetwinsize;

use super::mounts::attach;
use super::target::{self, Kind};
use crate::console::send_master;
use crate::plan::ProcessPlan;
use crate::step::{At, StepError};
use crate::sys;

const STEP: &str = "terminal";

/// linux/magic.h
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Makes the terminal, sends its master side to `console`, and makes its other side this process's streams and
/// controlling terminal. Returns that side; or `None` when the program is to have none.
pub(super) fn take(
    root: BorrowedFd<'_>,
    process: &ProcessPlan,
    console: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>, StepError> {
    let (Some(terminal), Some(console)) = (process.terminal, console) else { return Ok(None) };
    let (master, slave) = open(root)?;
    if process.uid != 0 {
        fchown(&slave, Some(Uid::from_raw(process.uid)), None).at(STEP, "its owner")?;
    }
    if let Some(size) = terminal.size {
        tcsetwinsize(&slave, size).at(STEP, "process.consoleSize")?;
    }
    send_master(console, master.as_fd()).at(STEP, "the console socket")?;
    sys::replace_stdio([slave.as_fd(); 3]).at(STEP, "standard streams")?;
    ioctl_tiocsctty(&slave).at(STEP, "the controlling terminal")?;
    Ok(Some(slave))
}

/// Both sides. Nothing but the kernel's own file is ever opened: there is no other in a devpts, and nothing mounted over
/// it would be followed.
fn open(root: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), StepError> {
    let path = "/dev/pts";
    let dir = target::open_without_links(root, Path::new(path)).at(STEP, path)?;
    if fstatfs(&dir).at(STEP, path)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(StepError::new(STEP, path, "is no devpts file system; add one to mounts"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let master = openat2(&dir, "ptmx", flags, Mode::empty(), resolve).at(STEP, "/dev/pts/ptmx")?;
    unlockpt(&master).at(STEP, "unlocking")?;
    // Not by a path, which could be another terminal by then.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).at(STEP, "its other side")?;
    Ok((master, slave))
}

/// Puts the terminal at /dev/console too.
pub(super) fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), StepError> {
    let path = "/dev/console";
    let place = target::open_or_make(root, Path::new(path), Kind::File).at(STEP, path)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let bound: Result<(), Errno> =
        open_tree(slave, "", flags).and_then(|tree| attach(tree.as_fd(), place.as_fd()));
    bound.at(STEP, path)
}
