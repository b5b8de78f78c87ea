//! Parts of /proc that may be read and not written: each is bound onto itself, read-only.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::{attach, existing};
use crate::step::{At, StepError};
use crate::sys::{MountAttr, mount_setattr};

const STEP: &str = "read-only paths";

/// Protects each path that exists. Runs after the change of root, so that no link leads out.
pub(super) fn protect(paths: &[PathBuf]) -> Result<(), StepError> {
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    for path in paths {
        let Some(place) = existing(path).at(STEP, path.display())? else { continue };
        let tree = open_tree(&place, "", flags).at(STEP, path.display())?;
        mount_setattr(tree.as_fd(), read_only, true).at(STEP, path.display())?;
        attach(tree.as_fd(), place.as_fd()).at(STEP, path.display())?;
    }
    Ok(())
}
