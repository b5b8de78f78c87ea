//! Makes the container's root filesystem the root, and the host's disappear.

use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_move, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::channel::{InitEnd, Report};
use crate::plan::Plan;
use crate::step::{At, StepError};

const STEP: &str = "pivot_root";

/// Makes `root` the root: of its mount namespace, or only its own where others are in that namespace.
/// `may_pivot`: whether the host's root can be exchanged for it.
pub(super) fn enter(root: OwnedFd, plan: &Plan, channel: &InitEnd, may_pivot: bool) -> Result<(), StepError> {
    if !plan.namespaces.joins(LinuxNamespaceType::Mount) {
        return if may_pivot { pivot(root) } else { move_over(root) };
    }
    channel.report(&Report::Warning(
        "the mount namespace is shared with others: the container's mounts stay in it, and CAP_SYS_CHROOT leads out \
         of its root filesystem"
            .to_owned(),
    ));
    fchdir(&root).at("chroot", "the root filesystem")?;
    chroot(".").at("chroot", "the root filesystem")?;
    chdir("/").at("chroot", "/")
}

/// pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is unmounted from there,
/// with no directory needed to put it.
fn pivot(root: OwnedFd) -> Result<(), StepError> {
    fchdir(&root).at(STEP, "the root filesystem")?;
    pivot_root(".", ".").at(STEP, "the root filesystem")?;
    unmount(".", UnmountFlags::DETACH).at(STEP, "the host's root")?;
    chdir("/").at(STEP, "/")
}

/// For a host that runs from its initial root filesystem, which nothing can take the place of: puts the container's
/// root on top of it (switch_root(8)).
fn move_over(root: OwnedFd) -> Result<(), StepError> {
    // What is not masked there could be seen by mounting it once more.
    for mount in ["/proc", "/sys"] {
        match unmount(mount, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno).at(STEP, mount),
        }
    }
    fchdir(&root).at(STEP, "the root filesystem")?;
    mount_move(".", "/").at(STEP, "the root filesystem")?;
    chroot(".").at(STEP, "the root filesystem")?;
    chdir("/").at(STEP, "/")
}
