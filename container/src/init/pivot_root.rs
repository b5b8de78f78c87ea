//! Makes the container's root filesystem the root, and the host's disappear.

use std::os::fd::OwnedFd;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::step::{At, StepError};

const STEP: &str = "pivot_root";

/// pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is unmounted from there,
/// with no directory needed to put it.
pub(super) fn pivot(root: OwnedFd) -> Result<(), StepError> {
    fchdir(&root).at(STEP, "the root filesystem")?;
    pivot_root(".", ".").at(STEP, "the root filesystem")?;
    unmount(".", UnmountFlags::DETACH).at(STEP, "the host's root")?;
    chdir("/").at(STEP, "/")
}
