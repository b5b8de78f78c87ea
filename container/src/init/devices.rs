//! Device nodes, and the links that every /dev has.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid, chownat, makedev, mknodat, statat, symlinkat};
use rustix::io::Errno;

use super::mounts::{attach, clone_tree};
use super::target::{self, Kind};
use crate::plan::{DeviceKind, DevicePlan};
use crate::step::{At, StepError};

const STEP: &str = "devices";

/// Runtime specification, "Dev symbolic links".
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the nodes; in a user namespace, where nobody may, binds the host's.
pub(super) fn make(
    root: BorrowedFd<'_>,
    devices: &[DevicePlan],
    in_user_namespace: bool,
) -> Result<(), StepError> {
    for device in devices {
        if in_user_namespace {
            bind(root, device)?;
        } else {
            make_node(root, device)?;
        }
    }
    let dev = target::open_or_make(root, Path::new("/dev"), Kind::Directory).at(STEP, "/dev")?;
    for (link, name) in LINKS {
        match symlinkat(link, &dev, name) {
            // An image's own.
            Err(Errno::EXIST) => {}
            result => result.at(STEP, format_args!("/dev/{name}"))?,
        }
    }
    Ok(())
}

fn make_node(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), StepError> {
    let path = device.path.as_path();
    let (dir, name) = target::open_or_make_parent(root, path).at(STEP, path.display())?;
    let number = makedev(device.major, device.minor);
    match mknodat(&dir, name, file_type(device.kind), Mode::from_raw_mode(device.mode), number) {
        Err(Errno::EXIST) => {
            let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).at(STEP, path.display())?;
            if !is_the_device(&found, device) {
                let reason = "something else is there already in the image";
                return Err(StepError::new(STEP, path.display(), reason));
            }
        }
        result => result.at(STEP, path.display())?,
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(STEP, path.display())?;
    }
    Ok(())
}

fn bind(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), StepError> {
    let path = device.path.as_path();
    let node = clone_tree(path, false).at(STEP, path.display())?;
    let found = statat(&node, "", AtFlags::EMPTY_PATH).at(STEP, path.display())?;
    if !is_the_device(&found, device) {
        return Err(StepError::new(STEP, path.display(), "the host's node of this name is another device"));
    }
    let place = target::open_or_make(root, path, Kind::File).at(STEP, path.display())?;
    attach(node.as_fd(), place.as_fd()).at(STEP, path.display())
}

fn is_the_device(found: &Stat, device: &DevicePlan) -> bool {
    let same_number = device.kind == DeviceKind::Fifo || found.st_rdev == makedev(device.major, device.minor);
    FileType::from_raw_mode(found.st_mode) == file_type(device.kind) && same_number
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}
