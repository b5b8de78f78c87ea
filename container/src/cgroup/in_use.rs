//! Whether a group that is asked for is somebody else's already.

use std::path::Path;

use super::hierarchy::Hierarchy;
use super::{Cgroup, CgroupError, freeze, kill};

/// Refuses a group that has processes, or would not let any run. One that is empty may be used.
pub(super) fn refuse(hierarchy: &Hierarchy, path: &Path) -> Result<(), CgroupError> {
    let group = Cgroup::open(hierarchy, path)?;
    if group.is_empty() {
        return Ok(());
    }
    let processes = kill::pids(&group)?.len();
    if processes > 0 {
        return Err(CgroupError::InUse { path: path.to_owned(), processes });
    }
    if freeze::is_frozen(&group)? {
        return Err(CgroupError::Frozen { path: path.to_owned() });
    }
    Ok(())
}
