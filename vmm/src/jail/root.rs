//! The root of a jail: an empty file system in memory, read-only, with at most one directory of the host's in it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::JailError;

/// Where the directory of sockets is in the jail; also the current directory.
const SOCKETS: &str = "vsock";
/// Most bytes and files of the root; it holds one directory.
const SIZE: [(&str, &str); 3] = [("size", "4096"), ("nr_inodes", "4"), ("mode", "0755")];
/// Nothing in the jail is to be executed, or a device.
const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Makes `root`, or an empty directory, this process's root, with `sockets` in it, and the host's disappear.
///
/// # Errors
/// A directory is not there, or the host refuses.
pub(super) fn pivot(root: Option<&Path>, sockets: Option<&Path>) -> Result<(), JailError> {
    let sockets =
        sockets.map(clone_mount).transpose().map_err(JailError::of("hold the directory of sockets"))?;
    let new = match root {
        Some(directory) => clone_mount(directory).map_err(JailError::of("hold the jail's root directory"))?,
        None => empty().map_err(JailError::of("make an empty root"))?,
    };
    enter(&new).map_err(JailError::of("change the root"))?;
    if let Some(sockets) = &sockets {
        attach(sockets).map_err(JailError::of("keep the directory of sockets"))?;
    }
    let writable = if root.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    mount_remount("/", MountFlags::BIND | HARMLESS | writable, "")
        .map_err(JailError::of("make the root harmless"))
}

/// A file system in memory, mounted nowhere yet.
fn empty() -> Result<OwnedFd, Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in SIZE {
        fsconfig_set_string(&tmpfs, key, value)?;
    }
    fsconfig_create(&tmpfs)?;
    let harmless = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, harmless)
}

/// A second mount of what is at `path`, mounted nowhere yet.
fn clone_mount(path: &Path) -> Result<OwnedFd, Errno> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// What the host calls `path` of a jail whose root is its directory `root`: something in there, however often `path` goes up.
pub(crate) fn on_host(root: &Path, path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    root.join(parts.iter().collect::<PathBuf>())
}

/// pivot_root(2): the new root is mounted on top of the old one, they change places, and the old one is unmounted from
/// on top of the new one. No directory is needed to put it.
fn enter(new: &OwnedFd) -> Result<(), Errno> {
    move_mount(new, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(new)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// Mounts the directory of sockets read-only (connecting to a socket writes no file) and goes there.
fn attach(sockets: &OwnedFd) -> Result<(), Errno> {
    match mkdirat(CWD, SOCKETS, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    move_mount(sockets.as_fd(), "", CWD, SOCKETS, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    mount_remount(SOCKETS, MountFlags::BIND | MountFlags::RDONLY | HARMLESS, "")?;
    chdir(SOCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_in_the_jail_is_in_its_root() {
        for path in ["a/disk", "/a/disk", "./a/disk", "../../a/disk", "b/../../../a/./disk"] {
            assert_eq!(on_host("/srv/vm".as_ref(), path.as_ref()), Path::new("/srv/vm/a/disk"), "{path}");
        }
    }
}
