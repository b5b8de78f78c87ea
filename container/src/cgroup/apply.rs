//! Writes limits down, and says why one cannot be had.

use std::io;
use std::path::Path;

use super::wanted::{Limit, Version};
use super::{Cgroup, CgroupError, subtree, write};

/// Writes all limits. What the kernel refuses is tried once more after the others: a quota may fit its new period, and a
/// limit on memory the new one on memory and swap.
pub(super) fn write_limits(group: &Cgroup, limits: &[Limit]) -> Result<(), CgroupError> {
    let mut again = Vec::new();
    for limit in limits {
        match write_limit(group, limit) {
            Err(CgroupError::Write { .. }) => again.push(limit),
            result => result?,
        }
    }
    again.into_iter().try_for_each(|limit| write_limit(group, limit))
}

fn write_limit(group: &Cgroup, limit: &Limit) -> Result<(), CgroupError> {
    let Limit { field, version, target, optional } = limit;
    let dir = match version {
        Version::V1 => group.v1_dir(&target.controller),
        Version::V2 => group.v2_dir(),
    };
    let Some(dir) = dir else {
        let reason = "the group has no directory there".to_owned();
        return Err(not_delegated(limit, Path::new("/"), reason));
    };
    for (file, value) in &target.files {
        match write(&dir.join(file.as_ref()), value) {
            Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    if *version == Version::V2
        && let Some((parent, reason)) = subtree::why_not_enabled(group, dir, &target.controller)
    {
        return Err(not_delegated(limit, &parent, reason));
    }
    if *optional {
        return Ok(());
    }
    let files: Vec<_> = target.files.iter().map(|(file, _)| file.as_ref()).collect();
    let controller = target.controller.to_string();
    Err(CgroupError::MissingFile { field: field.clone(), controller, files: files.join(" or ") })
}

/// A limit that this user may not have.
pub(super) fn not_delegated(limit: &Limit, dir: &Path, reason: String) -> CgroupError {
    CgroupError::NotDelegated {
        field: limit.field.clone(),
        controller: limit.target.controller.to_string(),
        dir: dir.to_owned(),
        reason,
    }
}
