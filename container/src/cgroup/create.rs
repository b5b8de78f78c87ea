//! Makes a group with its limits, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::device_rules::{self, DeviceRules};
use super::hierarchy::{Hierarchy, V1Tree};
use super::wanted::{Limit, Wanted};
use super::{Cgroup, CgroupError, V1Dir, apply, in_use, subtree};

/// v1 controllers whose tree is used even when no limit needs it: they account, track or guard.
const ALWAYS_USED: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "freezer", "devices"];

/// How often making a directory starts over when somebody else removes its empty parent meanwhile.
const MKDIR_TRIES: usize = 10;

/// Makes the group `path`.
pub(super) fn create(
    hierarchy: &Hierarchy,
    path: &Path,
    resources: &LinuxResources,
) -> Result<Cgroup, CgroupError> {
    let devices = resources.devices().as_deref().unwrap_or_default();
    let wanted = Wanted::choose(hierarchy, resources, devices, false)?;
    in_use::refuse(hierarchy, path)?;
    let mut making = Making::new(path)?;
    let done = making
        .dirs(hierarchy, &wanted)
        .and_then(|()| apply::write_limits(&making.group, &wanted.limits))
        .and_then(|()| making.device_rules(&wanted.rules));
    match done {
        Ok(()) => Ok(making.finish()),
        Err(error) => {
            making.undo();
            Err(error)
        }
    }
}

/// Makes the directory of a group in one more v1 tree.
pub(super) fn add_v1(group: &mut Cgroup, tree: &V1Tree) -> Result<PathBuf, CgroupError> {
    let mut making = Making::new(&group.path)?;
    let made = making.make(&tree.dir, |dir| inherit_cpuset(tree, dir));
    made.map_err(|(dir, source)| CgroupError::Create { dir, source })?;
    let v1 = V1Dir::new(tree, &making.relative);
    let dir = v1.dir.clone();
    group.v1.push(v1);
    Ok(dir)
}

/// A group that is being made.
struct Making {
    group: Cgroup,
    /// Its path below each tree's root.
    relative: PathBuf,
    /// The directories that were not there before, each after its parent.
    made: Vec<PathBuf>,
    /// How many of its parents were there before, in the tree with the most.
    found_parents: usize,
    /// Why the first tree that could not be had was left out.
    left_out: Option<(PathBuf, io::Error)>,
}

impl Making {
    fn new(path: &Path) -> Result<Self, CgroupError> {
        let relative = super::checked(path)?.to_owned();
        let group = Cgroup::nowhere(path);
        Ok(Self { group, relative, made: Vec::new(), found_parents: 0, left_out: None })
    }

    /// Its directory in each tree that is needed or useful.
    fn dirs(&mut self, hierarchy: &Hierarchy, wanted: &Wanted) -> Result<(), CgroupError> {
        for tree in &hierarchy.v1 {
            let (limit, guards) = (wanted.limit_of_v1(tree), wanted.guards_v1(tree));
            if limit.is_none() && !guards && !ALWAYS_USED.iter().any(|useful| tree.has(useful)) {
                continue;
            }
            let made = self.make(&tree.dir, |dir| inherit_cpuset(tree, dir));
            if self.has_dir(made, limit, guards)? {
                self.group.v1.push(V1Dir::new(tree, &self.relative));
            }
        }
        if let Some(tree) = &hierarchy.v2 {
            let limit = wanted.limits_of_v2().next();
            let controllers = subtree::controllers(tree, wanted);
            subtree::enable(&tree.dir, &controllers);
            let last = tree.dir.join(&self.relative);
            let made = self.make(&tree.dir, |dir| {
                if dir != last {
                    subtree::enable(dir, &controllers);
                }
                Ok(())
            });
            if self.has_dir(made, limit, wanted.rules.need_v2())? {
                subtree::refuse_threaded(&last)?;
                self.group.v2 = Some(last);
            }
        }
        Ok(())
    }

    /// Whether there is a directory now. A tree that we may not write is done without unless a limit needs it, or device
    /// rules that nothing else stands in for.
    fn has_dir(
        &mut self,
        made: Result<(), (PathBuf, io::Error)>,
        limit: Option<&Limit>,
        guards: bool,
    ) -> Result<bool, CgroupError> {
        let Err((dir, source)) = made else { return Ok(true) };
        if !is_forbidden(&source) {
            return Err(CgroupError::Create { dir, source });
        }
        if let Some(limit) = limit {
            return Err(apply::not_delegated(limit, &dir, source.to_string()));
        }
        if guards && device_rules::matter() {
            return Err(CgroupError::Create { dir, source });
        }
        self.left_out.get_or_insert((dir, source));
        Ok(false)
    }

    /// Makes each directory of its path below `tree`, calling `ready` for each one.
    fn make(
        &mut self,
        tree: &Path,
        ready: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let mut tries = 0;
        'again: loop {
            let mut dir = tree.to_owned();
            let mut found = 0;
            for part in &self.relative {
                dir.push(part);
                let result = match fs::create_dir(&dir) {
                    Ok(()) => {
                        self.made.push(dir.clone());
                        ready(&dir)
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        found += 1;
                        ready(&dir)
                    }
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
            self.found_parents = self.found_parents.max(found);
            return Ok(());
        }
    }

    /// Puts the device rules in force.
    fn device_rules(&mut self, rules: &DeviceRules) -> Result<(), CgroupError> {
        match rules.apply(&self.group) {
            Err(CgroupError::Devices { dir, source } | CgroupError::Write { file: dir, source, .. })
                if is_forbidden(&source) && !device_rules::matter() =>
            {
                self.left_out.get_or_insert((dir, source));
                Ok(())
            }
            result => result,
        }
    }

    /// The group, with one word on what it lacks, if it lacks all.
    fn finish(mut self) -> Cgroup {
        if let Some((dir, source)) = self.left_out.filter(|_| self.group.is_empty()) {
            self.group.warning = Some(format!(
                "the container runs without a cgroup of its own: cannot create {}: {source}",
                dir.display()
            ));
        }
        let parents = self.relative.components().count().saturating_sub(1);
        self.group.keep_parents(self.found_parents.min(parents));
        self.group
    }

    /// Removes what was made, in which no process has been yet.
    fn undo(self) {
        for dir in self.made.iter().rev() {
            if let Err(error) = fs::remove_dir(dir) {
                tracing::debug!("cannot remove {}: {error}", dir.display());
            }
        }
    }
}

/// Whether a tree may simply not be written by us.
fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// No process can be put into an empty v1 cpuset, and every new one is empty.
fn inherit_cpuset(tree: &V1Tree, dir: &Path) -> io::Result<()> {
    if !tree.has("cpuset") {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let present = fs::read_to_string(dir.join(file)).unwrap_or_default();
        if present.trim().is_empty() {
            fs::write(dir.join(file), fs::read(parent.join(file))?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::V2Tree;
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
        let error = create(&host.hierarchy, Path::new("/carve/x"), &resources(r#"{"pids": {"limit": 5}}"#))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("pids.limit") && text.contains("controller \"pids\""), "{text}");
        assert!(!host.root.path().join("cpu,cpuacct/carve").exists());
    }

    #[test]
    fn without_limits_only_useful_trees_are_used() {
        let host = fake(&["memory", "perf_event", "cpuset"], Some(""));
        let group = create(&host.hierarchy, Path::new("/carve/x"), &LinuxResources::default()).unwrap();
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
            create(&host.hierarchy, Path::new("/carve/x"), &resources(r#"{"memory": {"limit": 4096}}"#))
                .unwrap_err();
        assert!(matches!(error, CgroupError::MissingFile { .. }), "{error}");
        for tree in ["memory", "pids", "unified"] {
            assert!(!host.root.path().join(tree).join("carve").exists(), "{tree}");
        }
    }

    #[test]
    fn a_neighbour_keeps_the_parent() {
        let host = fake(&["memory"], None);
        let one = create(&host.hierarchy, Path::new("/carve/one"), &LinuxResources::default()).unwrap();
        let two = create(&host.hierarchy, Path::new("/carve/two"), &LinuxResources::default()).unwrap();
        one.remove().unwrap();
        one.remove().unwrap();
        assert!(host.root.path().join("memory/carve/two").is_dir());
        two.remove().unwrap();
        assert!(!host.root.path().join("memory/carve").exists());
    }

    #[test]
    fn a_parent_that_was_there_stays() {
        let host = fake(&["memory"], Some(""));
        let parents = ["memory/others", "unified/others"].map(|dir| host.root.path().join(dir));
        parents.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let path = Path::new("/others/pod/x");
        let group = create(&host.hierarchy, path, &LinuxResources::default()).unwrap();
        assert_eq!(group.made_parents(), 1);
        group.remove().unwrap();
        assert_eq!(Cgroup::missing_parents(&host.hierarchy, path).unwrap(), 1);
        create(&host.hierarchy, path, &LinuxResources::default()).unwrap();
        // As another command does it that was told how many were made.
        Cgroup::open(&host.hierarchy, path).unwrap().with_made_parents(1).remove().unwrap();
        assert!(parents.iter().all(|dir| dir.is_dir() && !dir.join("pod").exists()));
    }

    #[test]
    fn parents_go_where_the_group_itself_was_removed_or_never_made() {
        let host = fake(&["memory", "pids"], Some(""));
        for dir in ["memory/others/pod/x", "pids/others/pod", "unified/others"] {
            fs::create_dir_all(host.root.path().join(dir)).unwrap();
        }
        let path = Path::new("/others/pod/x");
        Cgroup::open(&host.hierarchy, path).unwrap().with_made_parents(2).remove().unwrap();
        for tree in ["memory", "pids", "unified"] {
            assert!(!host.root.path().join(tree).join("others").exists(), "{tree}");
        }
    }

    #[test]
    fn a_group_with_processes_is_refused_and_stays_as_it_is() {
        let host = fake(&["memory"], None);
        let dir = host.root.path().join("memory/carve/x");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cgroup.procs"), "17\n18\n").unwrap();
        let error = create(&host.hierarchy, Path::new("/carve/x"), &LinuxResources::default()).unwrap_err();
        assert!(matches!(error, CgroupError::InUse { processes: 2, .. }), "{error}");
        assert!(dir.is_dir());
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        create(&host.hierarchy, Path::new("/carve/x"), &LinuxResources::default()).unwrap();
    }

    #[test]
    fn a_threaded_group_is_refused() {
        let host = fake(&[], Some(""));
        let dir = host.root.path().join("unified/carve/x");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cgroup.type"), "domain invalid\n").unwrap();
        let error = create(&host.hierarchy, Path::new("/carve/x"), &LinuxResources::default()).unwrap_err();
        assert!(error.to_string().contains("threaded"), "{error}");
    }

    #[test]
    fn what_a_version_does_not_know_is_said() {
        let cases = [
            (
                &["memory"][..],
                None,
                r#"{"unified": {"memory.high": "1"}}"#,
                "is for cgroup v2, and this host has v1",
            ),
            (&["memory"], Some("hugetlb"), r#"{"unified": {"memory.high": "1"}}"#, "in a v1 tree"),
            (&[], Some("memory cpu"), r#"{"memory": {"swappiness": 5}}"#, "memory.swappiness: cgroup v2"),
            (&[], Some("memory cpu"), r#"{"cpu": {"realtimeRuntime": 5}}"#, "cpu.realtimeRuntime: cgroup v2"),
            (&[], Some("memory"), r#"{"network": {"classID": 5}}"#, "network.classID: cgroup v2"),
            (&["memory"], None, r#"{"network": {"classID": 5}}"#, "controller \"net_cls\""),
            (&["memory"], None, r#"{"rdma": {"mlx5": {"hcaHandles": 5}}}"#, "controller \"rdma\""),
            (&[], Some("cpu"), r#"{"blockIO": {"weight": 50}}"#, "controller \"blkio\""),
        ];
        for (v1, v2, json, expected) in cases {
            let host = fake(v1, v2);
            let error =
                create(&host.hierarchy, Path::new("/carve/x"), &resources(json)).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn a_controller_that_a_parent_does_not_give_on_is_named_with_the_parent() {
        let host = fake(&[], Some("memory"));
        let dir = host.root.path().join("unified/busy");
        fs::create_dir(&dir).unwrap();
        fs::write(host.root.path().join("unified/cgroup.subtree_control"), "memory\n").unwrap();
        let limits = resources(r#"{"memory": {"limit": 4096}}"#);
        let error = create(&host.hierarchy, Path::new("/busy/x"), &limits).unwrap_err();
        assert!(matches!(&error, CgroupError::NotDelegated { dir: at, .. } if *at == dir), "{error}");
    }

    #[test]
    fn nothing_is_enabled_for_the_groups_below_one_with_processes() {
        let host = fake(&[], Some("memory pids"));
        let dir = host.root.path().join("unified/busy");
        fs::create_dir(&dir).unwrap();
        for (file, text) in
            [("cgroup.type", "domain"), ("cgroup.procs", "17\n"), ("cgroup.subtree_control", "")]
        {
            fs::write(dir.join(file), text).unwrap();
        }
        fs::write(host.root.path().join("unified/cgroup.subtree_control"), "memory pids\n").unwrap();
        create(&host.hierarchy, Path::new("/busy/x/y"), &LinuxResources::default()).unwrap();
        assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "");
        let limits = resources(r#"{"pids": {"limit": 4}}"#);
        let error = create(&host.hierarchy, Path::new("/busy/z/y"), &limits).unwrap_err().to_string();
        assert!(error.contains("processes of its own"), "{error}");
        assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "");
    }

    #[test]
    fn v2_controllers_are_enabled_on_the_way_down() {
        let host = fake(&[], Some("memory pids"));
        let group = create(&host.hierarchy, Path::new("/carve/x"), &LinuxResources::default()).unwrap();
        // A plain file keeps what was written last; the kernel's would add it.
        let control = fs::read_to_string(host.root.path().join("unified/cgroup.subtree_control")).unwrap();
        assert!(control.starts_with("+pids"), "{control}");
        group.remove().unwrap();
    }
}
