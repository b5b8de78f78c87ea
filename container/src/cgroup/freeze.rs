//! Freezing and thawing all processes of a group.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Cgroup, CgroupError};

/// Whether the group is frozen, or on its way to it: the v1 freezer's word where there is one, else the v2 tree's.
pub(super) fn is_frozen(group: &Cgroup) -> Result<bool, CgroupError> {
    if let Some(dir) = group.v1_dir("freezer") {
        let state = read(&dir.join("freezer.state"))?;
        return Ok(state.is_some_and(|state| state.trim() != "THAWED"));
    }
    match group.v2_dir() {
        Some(dir) => Ok(read(&dir.join("cgroup.freeze"))?.is_some_and(|state| state.trim() == "1")),
        None => Ok(false),
    }
}

/// A file of the group; `None` when the group is gone.
fn read(file: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {
            tracing::debug!("{}: {source}", file.display());
            Ok(None)
        }
        Err(source) => Err(CgroupError::Read { file: file.to_owned(), source }),
    }
}
