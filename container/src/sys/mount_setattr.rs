//! `mount_setattr(2)`: flags, propagation and id maps of a mount that a descriptor stands for.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::check;

/// What to change: `MOUNT_ATTR_…` bits to set and to clear, and an `MS_PRIVATE`-like propagation (0: as it is).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

impl MountAttr {
    /// Whether applying this changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Applies `attr` to the mount whose root `mount` is, and with `recursive` to all mounts below it.
///
/// # Errors
/// EPERM when the mount's flags are locked by a user namespace, ENOSYS before Linux 5.12.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attr: MountAttr, recursive: bool) -> Result<(), Errno> {
    let MountAttr { set, clear, propagation } = attr;
    set_raw(mount, libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 }, recursive)
}

/// Maps the ids of files, as seen through this mount (and with `recursive` all mounts below it), as user namespace `user`
/// maps its own. The mount must not be attached anywhere yet.
///
/// # Errors
/// EINVAL when the filesystem cannot, EPERM without CAP_SYS_ADMIN where the filesystem was mounted, or when ids are mapped
/// already.
pub(crate) fn map_ids(mount: BorrowedFd<'_>, user: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let userns_fd = u64::try_from(user.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let raw = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_raw(mount, raw, recursive)
}

fn set_raw(mount: BorrowedFd<'_>, raw: libc::mount_attr, recursive: bool) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty string, `raw` a valid mount_attr of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(|_| ())
}
