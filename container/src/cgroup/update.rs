//! Changes the limits of a group that has processes.

use std::fs;
use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::figures::number;
use super::hierarchy::Hierarchy;
use super::wanted::Wanted;
use super::{Cgroup, CgroupError, apply, create, freeze, join, kill, subtree};

/// How often processes that came meanwhile are moved as well.
const ROUNDS: usize = 100;

/// Sets these limits, and with `devices` these device rules in place of those before.
pub(super) fn update(
    group: &mut Cgroup,
    hierarchy: &Hierarchy,
    resources: &LinuxResources,
    devices: bool,
) -> Result<(), CgroupError> {
    let devices = resources.devices().as_deref().filter(|_| devices).unwrap_or_default();
    let wanted = Wanted::choose(hierarchy, resources, devices, true)?;
    let check = resources.memory().as_ref().filter(|memory| memory.check_before_update() == Some(true));
    if let Some(limit) = check.and_then(|memory| memory.limit()) {
        refuse_less_than_used(group, limit)?;
    }
    add_trees(group, hierarchy, &wanted)?;
    apply::write_limits(group, &wanted.limits)?;
    if !wanted.rules.need_v1() {
        return wanted.rules.apply(group);
    }
    // No process may meet the list half written.
    let was_frozen = freeze::is_frozen(group)?;
    freeze::freeze(group)?;
    let applied = wanted.rules.apply(group);
    if !was_frozen {
        freeze::thaw(group)?;
    }
    applied
}

/// Where the kernel would rather kill than refuse: v2. v1 refuses by itself.
fn refuse_less_than_used(group: &Cgroup, limit: i64) -> Result<(), CgroupError> {
    let Some(dir) = group.v2_dir().filter(|_| group.v1_dir("memory").is_none()) else { return Ok(()) };
    let used = fs::read_to_string(dir.join("memory.current")).unwrap_or_default();
    match (u64::try_from(limit), number(&used)) {
        (Ok(limit), Some(used)) if limit > 0 && limit < used => Err(CgroupError::Unsupported {
            field: "memory.limit".to_owned(),
            reason: "is below what is in use, and memory.checkBeforeUpdate asks for that to be refused",
        }),
        _ => Ok(()),
    }
}

/// Makes the group in trees that it did without so far, and moves its processes there.
fn add_trees(group: &mut Cgroup, hierarchy: &Hierarchy, wanted: &Wanted) -> Result<(), CgroupError> {
    for tree in &hierarchy.v1 {
        let needed = wanted.limit_of_v1(tree).is_some() || wanted.guards_v1(tree);
        let there = tree.controllers.first().is_some_and(|c| group.v1_dir(c).is_some());
        if needed && !there && !group.is_empty() {
            let dir = create::add_v1(group, tree)?;
            move_into(group, &dir)?;
        }
    }
    if let (Some(tree), Some(_)) = (&hierarchy.v2, group.v2_dir()) {
        subtree::enable_on_the_way(tree, &group.path, wanted);
    }
    Ok(())
}

fn move_into(group: &Cgroup, dir: &Path) -> Result<(), CgroupError> {
    let mut moved = Vec::new();
    for _round in 0..ROUNDS {
        let mut new = kill::pids(group)?;
        new.retain(|pid| !moved.contains(pid));
        if new.is_empty() {
            break;
        }
        for pid in &new {
            match join(dir, *pid) {
                // It has ended.
                Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                result => result?,
            }
        }
        moved.extend(new);
    }
    Ok(())
}
