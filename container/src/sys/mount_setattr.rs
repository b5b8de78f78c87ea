//! `mount_setattr(2)`: flags and propagation of a mount that a descriptor stands for.

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
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
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
