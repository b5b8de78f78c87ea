//! Which controllers the groups of the v2 tree give on to those below them (cgroup-v2.rst, "Enabling and Disabling").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hierarchy::V2Tree;
use super::wanted::Wanted;
use super::{Cgroup, CgroupError, write};

/// The controllers that are enabled for the group: those that account or that limits are often changed of later, and
/// those that limits need now.
pub(super) fn controllers<'a>(tree: &'a V2Tree, wanted: &Wanted) -> Vec<&'a str> {
    let useful = |c: &str| matches!(c, "cpu" | "cpuset" | "io" | "memory" | "pids");
    let needed = |c: &str| wanted.limits_of_v2().any(|limit| limit.target.controller == c);
    tree.controllers.iter().map(String::as_str).filter(|c| useful(c) || needed(c)).collect()
}

/// Enables the controllers that limits need in all groups above `path`.
pub(super) fn enable_on_the_way(tree: &V2Tree, path: &Path, wanted: &Wanted) {
    let wanted: Vec<&str> = wanted.limits_of_v2().map(|limit| limit.target.controller.as_ref()).collect();
    let mut dir = tree.dir.clone();
    for part in path.components().skip(1) {
        enable(&dir, &wanted);
        dir.push(part);
    }
}

/// Enables controllers for the groups below `dir`. That one could not be is noticed where it is missing: when a
/// limit is written.
pub(super) fn enable(dir: &Path, wanted: &[&str]) {
    let file = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let missing = |c: &&&str| **c != "cgroup" && !enabled.split_whitespace().any(|e| e == **c);
    if wanted.iter().any(|c| missing(&c)) && has_own_processes(dir) {
        // Some controllers would be enabled even so, and make the group threaded, with no place for another process below.
        return;
    }
    for controller in wanted.iter().filter(missing) {
        if let Err(error) = write(&file, &format!("+{controller}")) {
            tracing::debug!("{error}");
        }
    }
}

/// The group above that has not given the controller to those below it, and what the kernel says to asking it again.
pub(super) fn why_not_enabled(group: &Cgroup, dir: &Path, controller: &str) -> Option<(PathBuf, String)> {
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
    if has_own_processes(parent) {
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

/// A process with its memory cannot be put into a group below a threaded one (cgroup-v2.rst, "Threads").
pub(super) fn refuse_threaded(dir: &Path) -> Result<(), CgroupError> {
    let kind = fs::read_to_string(dir.join("cgroup.type")).unwrap_or_default();
    match kind.trim() {
        "" | "domain" => Ok(()),
        kind => Err(CgroupError::Threaded { dir: dir.to_owned(), kind: kind.to_owned() }),
    }
}

/// Whether a group other than the root has processes of its own, which keeps it from giving controllers to groups below
/// it (cgroup-v2.rst, "No Internal Process Constraint").
fn has_own_processes(dir: &Path) -> bool {
    let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    !processes.trim().is_empty() && dir.join("cgroup.type").exists()
}
