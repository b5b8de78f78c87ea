//! Makes a group with its limits, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::devices::{self, DeviceRule};
use super::hierarchy::{Hierarchy, V2Tree};
use super::limits::{self, Setting};
use super::{Cgroup, CgroupError, V1Dir, device_program, write};

/// v1 controllers whose tree is used even when no limit needs it: they account, track or guard.
const ALWAYS_USED: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "freezer", "devices"];

/// How often making a directory starts over when somebody else removes its empty parent meanwhile.
const MKDIR_TRIES: usize = 10;

/// Makes the group at `relative`, a path below each tree's root.
pub(super) fn create(
    hierarchy: &Hierarchy,
    relative: &Path,
    resources: &LinuxResources,
) -> Result<Cgroup, CgroupError> {
    let settings = limits::settings(resources)?;
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    refuse_missing(hierarchy, &settings, &rules)?;
    let mut group = Cgroup { path: Path::new("/").join(relative), v1: Vec::new(), v2: None };
    let made = make_dirs(&mut group, hierarchy, relative, &settings, &rules)
        .and_then(|()| apply(&group, &settings, &rules));
    if let Err(error) = made {
        if let Err(left) = group.remove() {
            tracing::warn!("{left}");
        }
        return Err(error);
    }
    Ok(group)
}

/// Each limit needs its controller; device rules can do without theirs where there is a v2 tree.
fn refuse_missing(
    hierarchy: &Hierarchy,
    settings: &[Setting],
    rules: &[DeviceRule],
) -> Result<(), CgroupError> {
    if let Some(missing) = settings.iter().find(|setting| !hierarchy.has_controller(setting.controller)) {
        let field = missing.field.to_owned();
        return Err(CgroupError::MissingController { field, controller: missing.controller });
    }
    if !rules.is_empty() && !hierarchy.has_controller("devices") && hierarchy.v2.is_none() {
        return Err(CgroupError::MissingController { field: "devices".to_owned(), controller: "devices" });
    }
    Ok(())
}

fn make_dirs(
    group: &mut Cgroup,
    hierarchy: &Hierarchy,
    relative: &Path,
    settings: &[Setting],
    rules: &[DeviceRule],
) -> Result<(), CgroupError> {
    let needed = |controller: &str| {
        settings.iter().any(|setting| setting.controller == controller)
            || (controller == "devices" && !rules.is_empty())
    };
    for tree in &hierarchy.v1 {
        let required = tree.controllers.iter().any(|c| needed(c));
        if !required && !tree.controllers.iter().any(|c| ALWAYS_USED.contains(&c.as_str())) {
            continue;
        }
        let v1 = V1Dir::new(tree, relative);
        // Listed before it is made, so that a half-made path is removed as well.
        group.v1.push(v1);
        if let Err((dir, source)) = make_dir(&tree.dir, relative, |dir| inherit_cpuset(tree, dir)) {
            if required || !is_forbidden(&source) {
                return Err(CgroupError::Create { dir, source });
            }
            group.v1.pop();
        }
    }
    if let Some(tree) = &hierarchy.v2 {
        let wanted: Vec<&str> = tree.controllers.iter().map(String::as_str).filter(|c| useful(c)).collect();
        let required =
            settings.iter().any(|setting| tree.controllers.iter().any(|c| c == setting.controller))
                || (!rules.is_empty() && !hierarchy.has_controller("devices"));
        group.v2 = Some(tree.dir.join(relative));
        if let Err((dir, source)) = make_v2_dir(tree, relative, &wanted) {
            if required || !is_forbidden(&source) {
                return Err(CgroupError::Create { dir, source });
            }
            group.v2 = None;
        }
    }
    Ok(())
}

/// v2 controllers that are enabled for the group: those that limits can need and those that account.
fn useful(controller: &str) -> bool {
    matches!(controller, "cpu" | "cpuset" | "io" | "memory" | "pids")
}

/// Whether a tree may simply not be written by us.
fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Makes each directory of `relative` below `tree`, calling `made` for each one that is new.
fn make_dir(
    tree: &Path,
    relative: &Path,
    made: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let mut tries = 0;
    'again: loop {
        let mut dir = tree.to_owned();
        for part in relative {
            dir.push(part);
            let result = match fs::create_dir(&dir) {
                Ok(()) => made(&dir),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MKDIR_TRIES => {
                    tries += 1;
                    continue 'again;
                }
                Err(error) => return Err((dir, error)),
                Ok(()) => {}
            }
        }
        return Ok(());
    }
}

/// A new v1 cpuset is empty, and no process can be put into it before it has CPUs and memory nodes.
fn inherit_cpuset(tree: &super::V1Tree, dir: &Path) -> io::Result<()> {
    if !tree.controllers.iter().any(|c| c == "cpuset") {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fs::write(dir.join(file), fs::read(parent.join(file))?)?;
    }
    Ok(())
}

fn make_v2_dir(tree: &V2Tree, relative: &Path, wanted: &[&str]) -> Result<(), (PathBuf, io::Error)> {
    enable(&tree.dir, wanted);
    let last = tree.dir.join(relative);
    make_dir(&tree.dir, relative, |dir| {
        if dir != last {
            enable(dir, wanted);
        }
        Ok(())
    })
}

/// Enables controllers for the groups below `dir`. That one could not be is noticed where it is missing: when a
/// limit is written.
fn enable(dir: &Path, wanted: &[&str]) {
    let file = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    for controller in wanted.iter().filter(|c| !enabled.split_whitespace().any(|e| e == **c)) {
        if let Err(error) = write(&file, &format!("+{controller}")) {
            tracing::debug!("{error}");
        }
    }
}

fn apply(group: &Cgroup, settings: &[Setting], rules: &[DeviceRule]) -> Result<(), CgroupError> {
    for setting in settings {
        let (dir, file) = match group.v1_dir(setting.controller) {
            Some(dir) => (Some(dir), &setting.v1),
            None => (group.v2.as_deref(), &setting.v2),
        };
        let (Some(dir), Some((file, value))) = (dir, file) else {
            let reason = "this host's version of cgroups has no such setting; remove it";
            return Err(CgroupError::Unsupported { field: setting.field.to_owned(), reason });
        };
        write(&dir.join(file), value)?;
    }
    match (group.v1_dir("devices"), &group.v2) {
        (Some(dir), _) => rules.iter().try_for_each(|rule| write(&dir.join(rule.v1_file()), &rule.v1_line())),
        (None, Some(dir)) if !rules.is_empty() => device_program::attach(dir, rules),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::V1Tree;
    use super::*;

    /// Directories with plain files in place of control files, which must exist to be written.
    struct Fake {
        root: tempfile::TempDir,
        hierarchy: Hierarchy,
    }

    fn fake(v1: &[&str], v2: Option<&str>) -> Fake {
        let root = tempfile::tempdir().unwrap();
        let mut hierarchy = Hierarchy::default();
        for name in v1 {
            let dir = root.path().join(name);
            fs::create_dir(&dir).unwrap();
            hierarchy.v1.push(V1Tree { controllers: name.split(',').map(str::to_owned).collect(), dir });
        }
        if let Some(controllers) = v2 {
            let dir = root.path().join("unified");
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            hierarchy.v2 = Some(V2Tree { controllers, dir });
        }
        Fake { root, hierarchy }
    }

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_limit_without_its_controller_names_both() {
        let host = fake(&["cpu,cpuacct"], None);
        let error = create(&host.hierarchy, Path::new("carve/x"), &resources(r#"{"pids": {"limit": 5}}"#))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("pids.limit") && text.contains("controller \"pids\""), "{text}");
        assert!(!host.root.path().join("cpu,cpuacct/carve").exists());
    }

    #[test]
    fn without_limits_only_useful_trees_are_used() {
        let host = fake(&["memory", "perf_event", "cpuset"], Some(""));
        let group = create(&host.hierarchy, Path::new("carve/x"), &LinuxResources::default()).unwrap();
        assert_eq!(group.v1.len(), 1);
        assert!(host.root.path().join("memory/carve/x").is_dir());
        assert!(host.root.path().join("unified/carve/x").is_dir());
        assert!(!host.root.path().join("perf_event/carve").exists());
        group.remove().unwrap();
        assert!(!host.root.path().join("memory/carve").exists());
    }

    #[test]
    fn a_failure_half_way_leaves_nothing() {
        // Plain directories have no control files, so writing the limit fails after all directories are made.
        let host = fake(&["memory", "pids"], Some(""));
        let error =
            create(&host.hierarchy, Path::new("carve/x"), &resources(r#"{"memory": {"limit": 4096}}"#))
                .unwrap_err();
        assert!(matches!(error, CgroupError::Write { .. }), "{error}");
        for tree in ["memory", "pids", "unified"] {
            assert!(!host.root.path().join(tree).join("carve").exists(), "{tree}");
        }
    }

    #[test]
    fn a_neighbour_keeps_the_parent() {
        let host = fake(&["memory"], None);
        let one = create(&host.hierarchy, Path::new("carve/one"), &LinuxResources::default()).unwrap();
        let two = create(&host.hierarchy, Path::new("carve/two"), &LinuxResources::default()).unwrap();
        one.remove().unwrap();
        one.remove().unwrap();
        assert!(host.root.path().join("memory/carve/two").is_dir());
        two.remove().unwrap();
        assert!(!host.root.path().join("memory/carve").exists());
    }

    #[test]
    fn v2_controllers_are_enabled_on_the_way_down() {
        let host = fake(&[], Some("memory pids"));
        let group = create(&host.hierarchy, Path::new("carve/x"), &LinuxResources::default()).unwrap();
        // A plain file keeps what was written last; the kernel's would add it.
        let control = fs::read_to_string(host.root.path().join("unified/cgroup.subtree_control")).unwrap();
        assert!(control.starts_with("+pids"), "{control}");
        group.remove().unwrap();
    }
}
