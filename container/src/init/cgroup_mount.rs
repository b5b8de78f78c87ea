//! The container's own cgroups, mounted in the shape that the host has them: v2 as one directory, v1 as a directory
//! of trees.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::mounts::{attach, clone_tree, new_filesystem};
use crate::cgroup::Cgroup;
use crate::plan::MountPlan;
use crate::step::{At, StepError};
use crate::sys::{MountAttr, mount_setattr};

const STEP: &str = "cgroup mount";

/// Mounts them at `place`. A group that exists in no tree gives an empty directory.
pub(super) fn make(
    place: OwnedFd,
    mount: &MountPlan,
    cgroup: &Cgroup,
    only_v2: bool,
) -> Result<(), StepError> {
    if only_v2 {
        let reason = "the container has no cgroup of version 2; use the type cgroup";
        let none = || StepError::new(STEP, mount.destination.display(), reason);
        return bind(cgroup.v2_dir().ok_or_else(none)?, place, mount.attr);
    }
    let v1: Vec<_> = cgroup.v1_dirs().collect();
    if let (true, Some(dir)) = (v1.is_empty(), cgroup.v2_dir()) {
        return bind(dir, place, mount.attr);
    }
    let writable = MountAttr { set: mount.attr.set & !libc::MOUNT_ATTR_RDONLY, ..mount.attr };
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let shelf = new_filesystem("tmpfs", "cgroup", &mode, writable, &mount.destination)?;
    attach(shelf.as_fd(), place.as_fd()).at(STEP, mount.destination.display())?;
    let unified = cgroup.v2_dir().map(|dir| ("unified", dir));
    for (tree, dir) in v1.into_iter().chain(unified) {
        mkdirat(&shelf, tree, Mode::from_raw_mode(0o755)).at(STEP, tree)?;
        let place = openat(&shelf, tree, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(STEP, tree)?;
        bind(dir, place, mount.attr)?;
    }
    if mount.attr.set & libc::MOUNT_ATTR_RDONLY != 0 {
        mount_setattr(shelf.as_fd(), mount.attr, false).at(STEP, mount.destination.display())?;
    }
    Ok(())
}

fn bind(dir: &Path, place: OwnedFd, attr: MountAttr) -> Result<(), StepError> {
    let tree = clone_tree(dir, false).at(STEP, dir.display())?;
    mount_setattr(tree.as_fd(), attr, false).at(STEP, dir.display())?;
    attach(tree.as_fd(), place.as_fd()).at(STEP, dir.display())
}
