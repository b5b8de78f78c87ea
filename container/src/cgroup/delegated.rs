//! Where a group may be made by who may not write at the top of the v2 tree: in the part of it that was delegated to them
//! (cgroup-v2.rst, "Delegation"), which is where they are themselves.
//!
//! As with runc, that is beside their own group, in its parent: their own has processes, themselves, and cannot give
//! controllers to groups below it. Only where the parent is not theirs it is their own group, for containers without limits.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::hierarchy::{Hierarchy, HierarchyKind};

/// The group to make others in, like `/user.slice/…/app.slice`. `None` with v1 trees, for who may write everywhere, and where
/// nothing is delegated.
pub(super) fn base(hierarchy: &Hierarchy) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    choose(hierarchy, &own, may_write)
}

/// As [`base`], from the content of `/proc/self/cgroup` (cgroups(7)) and who may write what.
fn choose(hierarchy: &Hierarchy, own: &str, may_write: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let tree = hierarchy.v2.as_ref().filter(|_| hierarchy.kind() == HierarchyKind::V2)?;
    if may_write(&tree.dir) {
        return None;
    }
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    // One outside of the cgroup namespace starts with `/..`.
    let relative = super::checked(Path::new(own)).ok()?;
    // To put a process into a group takes the right to it in what the groups before and after have in common.
    let is_delegated = |group: &&Path| {
        let dir = tree.dir.join(group);
        !group.as_os_str().is_empty() && may_write(&dir) && may_write(&dir.join("cgroup.procs"))
    };
    let chosen = relative.ancestors().take(2).collect::<Vec<_>>().into_iter().rev().find(is_delegated)?;
    Some(Path::new("/").join(chosen))
}

fn may_write(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::{V1Tree, V2Tree};
    use super::*;

    const SCOPE: &str = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope\n";

    #[test]
    fn groups_are_made_where_they_are_delegated() {
        let dir = PathBuf::from("/sys/fs/cgroup");
        let v2 = Some(V2Tree { controllers: Vec::new(), dir: dir.clone() });
        let unified = Hierarchy { v1: Vec::new(), v2: v2.clone() };
        let hybrid =
            Hierarchy { v1: vec![V1Tree { controllers: vec!["pids".into()], dir: "/p".into() }], v2 };
        let user = "user.slice/user-1000.slice/user@1000.service";
        for (hierarchy, own, theirs, expected) in [
            (&unified, SCOPE, user, Some("/user.slice/user-1000.slice/user@1000.service/app.slice")),
            (
                &unified,
                "0::/system.slice/ci.service\n",
                "system.slice/ci.service",
                Some("/system.slice/ci.service"),
            ),
            (&unified, "0::/ci\n", "ci", Some("/ci")),
            (&unified, "0::/user.slice/user-1000.slice/session-2.scope\n", user, None),
            (&unified, "0::/\n", user, None),
            (&unified, "0::/../../x/y\n", "", None),
            (&unified, "4:pids:/x\n", user, None),
            (&unified, "", user, None),
            (&hybrid, SCOPE, user, None),
        ] {
            let may_write = |path: &Path| !theirs.is_empty() && path.starts_with(dir.join(theirs));
            let chosen = choose(hierarchy, own, may_write);
            assert_eq!(chosen.as_deref(), expected.map(Path::new), "{own}");
        }
        assert_eq!(choose(&unified, SCOPE, |_| true), None, "root needs no delegation");
        let no_processes = |path: &Path| path.ends_with("app.slice") || path.ends_with("shell.scope");
        assert_eq!(choose(&unified, SCOPE, no_processes), None, "a process cannot be put there");
    }
}
