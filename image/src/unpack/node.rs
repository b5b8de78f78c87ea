//! Makes one file, link or device, and gives it its attributes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::{by_descriptor, is_privileged};
use crate::erofs::read::{Image as Erofs, Node, NodeKind};
use crate::erofs::xattr;

/// Makes `node` as `name`, which must not be there.
pub(super) fn create(erofs: &Erofs, node: &Node, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match node.kind {
        NodeKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            erofs.copy(node, &file)?;
            return set_attributes(node, &file);
        }
        NodeKind::Symlink => {
            let target = erofs.contents(node)?;
            rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
        }
        NodeKind::Fifo => make_special(parent, name, FileType::Fifo, (0, 0))?,
        NodeKind::CharDevice(major, minor) | NodeKind::BlockDevice(major, minor) => {
            if !is_privileged() {
                tracing::debug!("leaving out device {}: only root can make it", name.display());
                return Ok(());
            }
            let is_char = matches!(node.kind, NodeKind::CharDevice(..));
            let kind = if is_char { FileType::CharacterDevice } else { FileType::BlockDevice };
            make_special(parent, name, kind, (major, minor))?;
        }
        NodeKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
    }
    let (uid, gid) = node.owner();
    if is_privileged() {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if node.kind != NodeKind::Symlink {
        // It was made a moment ago in a directory of ours, so it is not a link.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(node.mode().into()), AtFlags::empty())?;
    }
    let path = by_descriptor(parent, name);
    set_xattrs(node, |key, value| rustix::fs::lsetxattr(&path, key, value, XattrFlags::empty()))?;
    Ok(rustix::fs::utimensat(parent, name, &times(node), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets owner, attributes, mode and time of an open file or directory. In that order: a change of owner
/// clears set-id bits and capabilities.
pub(super) fn set_attributes(node: &Node, file: impl AsFd) -> io::Result<()> {
    let (uid, gid) = node.owner();
    if is_privileged() {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    set_xattrs(node, |key, value| rustix::fs::fsetxattr(&file, key, value, XattrFlags::empty()))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(node.mode().into()))?;
    Ok(rustix::fs::futimens(&file, &times(node))?)
}

fn make_special(
    parent: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    (major, minor): (u32, u32),
) -> io::Result<()> {
    Ok(rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor))?)
}

/// Sets what the filesystem and the caller's privileges allow; overlayfs's mark means nothing here.
fn set_xattrs(node: &Node, set: impl Fn(&OsStr, &[u8]) -> rustix::io::Result<()>) -> io::Result<()> {
    for (key, value) in node.xattrs.iter().filter(|(key, _)| *key != xattr::OPAQUE.0) {
        let key = OsStr::from_bytes(key);
        match set(key, value) {
            Ok(()) => {}
            Err(error @ (Errno::OPNOTSUPP | Errno::PERM)) => {
                tracing::debug!("leaving out extended attribute {}: {error}", key.display());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn times(node: &Node) -> Timestamps {
    let (seconds, nanoseconds) = node.mtime();
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
