//! Which of a limit's two forms a host takes, and writing it down.

use std::fs;
use std::io;
use std::path::Path;

use super::hierarchy::Hierarchy;
use super::limits::{Setting, Target};
use super::{Cgroup, CgroupError, create, write};

/// Which tree a limit goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A limit, and where on this host it goes.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) setting: &'a Setting,
    pub(super) target: &'a Target,
    pub(super) version: Version,
}

/// Finds the tree for each limit.
pub(super) fn choose<'a>(
    hierarchy: &Hierarchy,
    settings: &'a [Setting],
) -> Result<Vec<Chosen<'a>>, CgroupError> {
    let mut chosen = Vec::new();
    for setting in settings {
        let v1 = setting.v1.as_ref().filter(|target| hierarchy.has_v1(&target.controller));
        let v2 = setting.v2.as_ref().filter(|target| hierarchy.has_v2(&target.controller));
        match (v1, v2) {
            (Some(target), _) => chosen.push(Chosen { setting, target, version: Version::V1 }),
            (None, Some(target)) => chosen.push(Chosen { setting, target, version: Version::V2 }),
            (None, None) if setting.optional => {}
            (None, None) => return Err(missing(hierarchy, setting)),
        }
    }
    Ok(chosen)
}

/// Why this host cannot have it.
fn missing(hierarchy: &Hierarchy, setting: &Setting) -> CgroupError {
    let field = setting.field.clone();
    let unsupported = |reason| CgroupError::Unsupported { field: field.clone(), reason };
    let v2_alone = hierarchy.v1.is_empty() && hierarchy.v2.is_some();
    match (&setting.v1, &setting.v2) {
        (Some(_), None) if v2_alone => {
            unsupported("cgroup v2, which this host has, knows no such limit; remove it")
        }
        (None, Some(_)) if hierarchy.v2.is_none() => unsupported(
            "is for cgroup v2, and this host has v1; use the field of linux.resources that says the same",
        ),
        (None, Some(target)) if hierarchy.has_v1(&target.controller) => unsupported(
            "is for cgroup v2, and this host has the controller in a v1 tree; use the field of linux.resources \
             that says the same",
        ),
        (Some(target), _) | (None, Some(target)) => {
            CgroupError::MissingController { field, controller: target.controller.to_string() }
        }
        (None, None) => unsupported("says nothing"),
    }
}

/// Writes all limits. What the kernel refuses is tried once more after the others: a quota may fit its new period, and a
/// limit on memory the new one on memory and swap.
pub(super) fn write_limits(group: &Cgroup, limits: &[Chosen<'_>]) -> Result<(), CgroupError> {
    let mut again = Vec::new();
    for limit in limits {
        match write_limit(group, limit) {
            Err(CgroupError::Write { .. }) => again.push(limit),
            result => result?,
        }
    }
    again.into_iter().try_for_each(|limit| write_limit(group, limit))
}

fn write_limit(group: &Cgroup, limit: &Chosen<'_>) -> Result<(), CgroupError> {
    let Chosen { setting, target, version } = limit;
    let dir = match version {
        Version::V1 => group.v1_dir(&target.controller),
        Version::V2 => group.v2_dir(),
    };
    let Some(dir) = dir else {
        let reason = "the group has no directory there".to_owned();
        return Err(not_delegated(setting, target, Path::new("/"), reason));
    };
    for (file, value) in &target.files {
        match write(&dir.join(file.as_ref()), value) {
            Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    if *version == Version::V2
        && let Some((parent, reason)) = why_not_enabled(group, dir, &target.controller)
    {
        return Err(not_delegated(setting, target, &parent, reason));
    }
    if setting.optional {
        return Ok(());
    }
    let files: Vec<_> = target.files.iter().map(|(file, _)| file.as_ref()).collect();
    let controller = target.controller.to_string();
    Err(CgroupError::MissingFile { field: setting.field.clone(), controller, files: files.join(" or ") })
}

/// A limit that this user may not have.
pub(super) fn not_delegated(setting: &Setting, target: &Target, dir: &Path, reason: String) -> CgroupError {
    CgroupError::NotDelegated {
        field: setting.field.clone(),
        controller: target.controller.to_string(),
        dir: dir.to_owned(),
        reason,
    }
}

/// The group above that has not given the controller to those below it, and what the kernel says to asking it again.
fn why_not_enabled(group: &Cgroup, dir: &Path, controller: &str) -> Option<(std::path::PathBuf, String)> {
    let listed = |file: &Path| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().any(|word| word == controller)
    };
    if controller == "cgroup" || listed(&dir.join("cgroup.controllers")) {
        return None;
    }
    let depth = group.path.components().count().saturating_sub(1);
    let mut above: Vec<_> = dir.ancestors().skip(1).take(depth).collect();
    above.reverse();
    let parent = above.into_iter().find(|dir| !listed(&dir.join("cgroup.subtree_control")))?;
    if create::has_own_processes(parent) {
        let reason = "it has processes of its own, and such a group cannot give controllers to groups below it; move them \
                      to a group beside this one";
        return Some((parent.to_owned(), reason.to_owned()));
    }
    let asked = write(&parent.join("cgroup.subtree_control"), &format!("+{controller}"));
    let reason = match asked {
        Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            "it was not given the controller itself".to_owned()
        }
        Err(CgroupError::Write { source, .. }) => source.to_string(),
        _ => "it did not give it on".to_owned(),
    };
    Some((parent.to_owned(), reason))
}
