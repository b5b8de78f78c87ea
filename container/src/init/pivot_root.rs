//! Makes the container's root filesystem the root, and the host's disappear.

use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::channel::{InitEnd, Report};
use crate::plan::Plan;
use crate::step::{At, StepError};

const STEP: &str = "pivot_root";

/// Makes `root` the root: of its mount namespace, or only its own where others are in that namespace.
pub(super) fn enter(root: OwnedFd, plan: &Plan, channel: &InitEnd) -> Result<(), StepError> {
    if !plan.namespaces.joins(LinuxNamespaceType::Mount) {
        return pivot(root);
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
