//! Covers what a container must not read: files with /dev/null, directories with an empty one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, makedev, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::{attach, existing, new_filesystem};
use crate::step::{At, StepError};
use crate::sys::MountAttr;

const STEP: &str = "masked paths";

/// Covers each path that exists. Runs after the change of root, so that no link leads out.
pub(super) fn mask(paths: &[PathBuf]) -> Result<(), StepError> {
    let (mut null, mut empty) = (None, None);
    for path in paths {
        let Some(place) = existing(path).at(STEP, path.display())? else { continue };
        let is_dir = FileType::from_raw_mode(fstat(&place).at(STEP, path.display())?.st_mode).is_dir();
        if is_dir {
            cover_directory(&mut empty, place.as_fd(), path)?;
        } else {
            let null = match &mut null {
                Some(null) => null,
                slot => slot.insert(null_device()?),
            };
            cover(null.as_fd(), place.as_fd(), path)?;
        }
    }
    Ok(())
}

/// The first directory is covered by the file system itself, all others by copies of that: one that is nowhere when it is
/// closed is unmounted, which makes the kernel wait until all CPUs have seen it, for milliseconds.
fn cover_directory(empty: &mut Option<OwnedFd>, place: BorrowedFd<'_>, path: &Path) -> Result<(), StepError> {
    if let Some(empty) = empty {
        return cover(empty.as_fd(), place, path);
    }
    let empty = empty.insert(empty_directory(path)?);
    attach(empty.as_fd(), place).at(STEP, path.display())
}

fn cover(with: BorrowedFd<'_>, place: BorrowedFd<'_>, path: &Path) -> Result<(), StepError> {
    let copy = copy(with).at(STEP, path.display())?;
    attach(copy.as_fd(), place).at(STEP, path.display())
}

/// The container's /dev/null, which must be the real one: an image could have put something else there.
fn null_device() -> Result<OwnedFd, StepError> {
    let path = Path::new("/dev/null");
    let null = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let null = null.at(STEP, path.display())?;
    let found = fstat(&null).at(STEP, path.display())?;
    if !FileType::from_raw_mode(found.st_mode).is_char_device() || found.st_rdev != makedev(1, 3) {
        return Err(StepError::new(STEP, path.display(), "is not the null device"));
    }
    Ok(null)
}

fn empty_directory(path: &Path) -> Result<OwnedFd, StepError> {
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    let smallest =
        [("nr_blocks".to_owned(), Some("1".to_owned())), ("nr_inodes".to_owned(), Some("1".to_owned()))];
    new_filesystem("tmpfs", "tmpfs", &smallest, read_only, path)
}

/// A detached mount of what the descriptor stands for.
fn copy(original: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(original, "", flags)
}
