//! What of later mounts passes between the root filesystem and elsewhere: `linux.rootfsPropagation`.
//!
//! While mounts are made and the root is changed, the root mount is nobody's peer: nothing of it shows on the host, and
//! pivot_root takes no other. What it is to be in the end, it becomes last.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::plan::RootPropagation;
use crate::step::{At, StepError};
use crate::sys::{MountAttr, mount_setattr};

const STEP: &str = "linux.rootfsPropagation";

/// What holds before anything is mounted in it: for the mounts that it brought with it, and for itself for now.
pub(super) fn set_first(root: BorrowedFd<'_>, propagation: RootPropagation) -> Result<(), StepError> {
    let set = |propagation, recursive| -> Result<(), Errno> {
        mount_setattr(root, MountAttr { propagation, ..MountAttr::default() }, recursive)
    };
    match (propagation.kind, propagation.recursive) {
        // So it is already.
        (libc::MS_SLAVE, _) => Ok(()),
        (libc::MS_PRIVATE, _) | (_, false) => set(libc::MS_PRIVATE, true),
        (kind, true) => set(kind, true).and_then(|()| set(libc::MS_PRIVATE, false)),
    }
    .at(STEP, "the root filesystem")
}

/// What holds in the end, for the root mount.
pub(super) fn set_last(propagation: RootPropagation) -> Result<(), StepError> {
    let kind = match propagation.kind {
        libc::MS_SHARED => MountPropagationFlags::SHARED,
        libc::MS_UNBINDABLE => MountPropagationFlags::UNBINDABLE,
        _ => return Ok(()),
    };
    mount_change("/", kind).at(STEP, "/")
}
