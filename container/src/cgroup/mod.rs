//! Control groups, in whichever of the three shapes the host has them.
//!
//! With v1 every controller (or set of them) is a tree of its own; with v2 there is one tree; a hybrid host has the
//! controllers in v1 trees and a v2 tree beside them, for tracking processes. [`Hierarchy`] finds out which;
//! [`Cgroup`] is one group across all trees that matter. `limits` says which file of which controller holds
//! which limit, `device_rules.rs` does the same for device rules.
//!
//! A tree is used when a limit needs it, or when it is one of those that account for or control processes. A
//! limit whose controller is missing is an error; a tree that is merely useful and may not be written is left out.

mod apply;
mod create;
mod delegated;
mod device_list;
mod device_program;
mod device_rules;
mod devices;
mod error;
#[cfg(test)]
mod fake;
mod figures;
mod freeze;
mod hierarchy;
mod in_use;
mod kill;
mod limits;
mod oom;
mod own_way;
mod remove;
mod stats;
mod subtree;
mod update;
mod usage;
mod wanted;

use std::fs;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

pub use error::CgroupError;
pub use hierarchy::{Hierarchy, HierarchyKind, V1Tree, V2Tree};
pub use oom::OomWatch;
pub(crate) use own_way::OwnWay;
pub use stats::{CgroupStats, MemoryStats};
pub use usage::{Pressure, Usage, Waited};

/// One control group: a directory in each tree that is used.
#[derive(Debug)]
pub struct Cgroup {
    /// Its path in each tree, like `/carve/web`.
    path: PathBuf,
    /// Its directories in v1 trees.
    v1: Vec<V1Dir>,
    /// Its directory in the v2 tree.
    v2: Option<PathBuf>,
    /// What its directories would be in trees that it is not in.
    elsewhere: Vec<PathBuf>,
    /// How many of its parents, from the innermost, go with it when they are empty.
    made_parents: usize,
    /// What whoever asked for the group should know.
    warning: Option<String>,
}

/// The first part of a path that is the product's own: no one else's groups are below it.
const OWN_PREFIX: &str = "carve";

/// A group's directory in a v1 tree.
#[derive(Debug)]
struct V1Dir {
    controllers: Vec<String>,
    /// The tree's own directory name, like `cpu,cpuacct`.
    tree: String,
    dir: PathBuf,
}

impl Cgroup {
    /// Makes the group `path` (absolute, like `/carve/web`) with these limits. Missing parents are made as well.
    ///
    /// # Errors
    /// When a limit is not supported, its controller is missing, or the kernel refuses. What was made by then is
    /// removed again.
    pub fn create(
        hierarchy: &Hierarchy,
        path: &Path,
        resources: &LinuxResources,
    ) -> Result<Self, CgroupError> {
        create::create(hierarchy, path, resources)
    }

    /// Refuses what [`Cgroup::create`] would refuse because of what the group is already: in use, or frozen.
    ///
    /// # Errors
    /// Then, and when the group cannot be looked at.
    pub fn refuse_used(hierarchy: &Hierarchy, path: &Path) -> Result<(), CgroupError> {
        in_use::refuse(hierarchy, path)
    }

    /// The group below which a user may make others who may not at the top of the v2 tree; `None` if that does not matter, or
    /// nothing is delegated.
    pub(crate) fn delegated(hierarchy: &Hierarchy) -> Option<PathBuf> {
        delegated::base(hierarchy)
    }

    /// The group `path` as far as it exists; trees without it are left out.
    ///
    /// # Errors
    /// When the path is not absolute and plain.
    pub fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Self, CgroupError> {
        let relative = checked(path)?;
        let (v1, missing): (Vec<_>, Vec<_>) =
            hierarchy.v1.iter().map(|tree| V1Dir::new(tree, relative)).partition(|v1| v1.dir.is_dir());
        let v2 = hierarchy.v2.as_ref().map(|tree| tree.dir.join(relative));
        let (v2, missing_v2) = v2.map_or((None, None), |dir| match dir.is_dir() {
            true => (Some(dir), None),
            false => (None, Some(dir)),
        });
        let elsewhere = missing.into_iter().map(|v1| v1.dir).chain(missing_v2).collect();
        Ok(Self { v1, v2, elsewhere, ..Self::nowhere(path) })
    }

    /// How many parents of the group `path`, from the innermost, whoever makes it would have to make as well.
    ///
    /// # Errors
    /// When the path is not absolute and plain.
    pub(crate) fn missing_parents(hierarchy: &Hierarchy, path: &Path) -> Result<usize, CgroupError> {
        let group = Self::nowhere(path);
        let relative = checked(path)?;
        let parents = relative.components().count().saturating_sub(1);
        if group.made_parents == parents {
            return Ok(parents);
        }
        let trees =
            hierarchy.v1.iter().map(|tree| &tree.dir).chain(hierarchy.v2.iter().map(|tree| &tree.dir));
        let missing =
            |tree: &PathBuf| tree.join(relative).ancestors().skip(1).take_while(|dir| !dir.is_dir()).count();
        Ok(trees.map(missing).min().unwrap_or(0).min(parents))
    }

    /// The group without a directory anywhere. What is below our own prefix is removed with its parents, and of others
    /// nothing, until more is known.
    fn nowhere(path: &Path) -> Self {
        let parents = path.components().count().saturating_sub(2);
        let first = path.components().nth(1).map(|first| first.as_os_str().to_string_lossy().into_owned());
        let own = first.is_some_and(|first| first == OWN_PREFIX || first.starts_with("carve-"));
        let made_parents = if own { parents } else { 0 };
        Self {
            path: path.to_owned(),
            v1: Vec::new(),
            v2: None,
            elsewhere: Vec::new(),
            made_parents,
            warning: None,
        }
    }

    /// How many of its parents, from the innermost, were made for it.
    pub fn made_parents(&self) -> usize {
        self.made_parents
    }

    /// The same group, whose parents are known to have been made for it: this many, from the innermost.
    #[must_use]
    pub fn with_made_parents(mut self, made: usize) -> Self {
        let parents = self.path.components().count().saturating_sub(2);
        self.made_parents = self.made_parents.max(made.min(parents));
        self
    }

    /// Keeps this many parents, from the root, that were there before; of our own prefix none is kept.
    fn keep_parents(&mut self, found: usize) {
        let parents = self.path.components().count().saturating_sub(2);
        self.made_parents = self.made_parents.max(parents.saturating_sub(found));
    }

    /// What whoever asked for the group should know.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The group's path in each tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the group exists in no tree at all.
    pub fn is_empty(&self) -> bool {
        self.v1.is_empty() && self.v2.is_none()
    }

    /// Moves a process, with all its threads, into the group.
    ///
    /// # Errors
    /// When the kernel refuses, for instance because the process is gone (ESRCH).
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        self.dirs().try_for_each(|dir| join(dir, pid))
    }

    /// What the group has used so far. What the host does not account for is `None`.
    ///
    /// # Errors
    /// When a file that should be there cannot be read.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        stats::read(self)
    }

    /// The same and more, in the words of other runtimes. What the host does not account for is 0.
    pub fn usage(&self) -> Usage {
        usage::read(self)
    }

    /// A watch for its running out of memory; `None` where nobody accounts for that.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        OomWatch::new(self)
    }

    /// Sets these limits, and with `devices` these device rules in place of those before. What they do not name stays.
    ///
    /// # Errors
    /// As with [`Cgroup::create`]. What was set by then stays.
    pub fn update(
        &mut self,
        hierarchy: &Hierarchy,
        resources: &LinuxResources,
        devices: bool,
    ) -> Result<(), CgroupError> {
        update::update(self, hierarchy, resources, devices)
    }

    /// Kills every process in the group and in groups below it. They may take a moment to be gone.
    ///
    /// # Errors
    /// When the processes cannot be listed or killed.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        kill::kill_all(self)
    }

    /// Sends a signal, by number, to every process in the group and in groups below it. They are frozen meanwhile, so
    /// that none is missed.
    ///
    /// # Errors
    /// When the processes cannot be listed or signalled.
    pub fn signal_all(&self, signal: i32) -> Result<(), CgroupError> {
        kill::signal_all(self, signal)
    }

    /// The processes in the group and in groups below it, by id in the caller's pid namespace, sorted.
    ///
    /// # Errors
    /// When a directory of the group cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        Ok(kill::pids(self)?.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect())
    }

    /// Freezes all processes in the group and below it, and waits until they are.
    ///
    /// # Errors
    /// When there is no freezer, or a process does not come to a halt; they are thawed then.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freeze::freeze(self)
    }

    /// Thaws them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        freeze::thaw(self)
    }

    /// Thaws what could not die of a signal otherwise.
    pub(crate) fn let_die(&self) {
        freeze::let_die(self);
    }

    /// Whether the group's processes are frozen.
    ///
    /// # Errors
    /// When the file that says so cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        freeze::is_frozen(self)
    }

    /// Removes the group, all groups below it, and the parents that were made for it if they are empty then. Processes still in it are
    /// killed. A group that is not there is no error.
    ///
    /// # Errors
    /// When processes are left after five seconds of killing them, or the kernel refuses for another reason.
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove::remove(self)
    }

    /// The group's directory in the v2 tree.
    pub(crate) fn v2_dir(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// The directory in the v2 tree of the group that a process is in.
    pub(crate) fn v2_dir_of(&self, pid: i32) -> Option<PathBuf> {
        let tree = self.v2.as_deref()?.ancestors().nth(self.path.components().count() - 1)?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(tree.join(group))
    }

    /// The group's directory in each v1 tree, with the name that tree has.
    pub(crate) fn v1_dirs(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1.iter().map(|v1| (v1.tree.as_str(), v1.dir.as_path()))
    }

    /// All its directories.
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|v1| v1.dir.as_path()).chain(self.v2.as_deref())
    }

    /// Its directory in the v1 tree of this controller.
    fn v1_dir(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|v1| v1.controllers.iter().any(|c| c == controller)).map(|v1| v1.dir.as_path())
    }
}

impl V1Dir {
    fn new(tree: &V1Tree, relative: &Path) -> Self {
        let name = tree.dir.file_name().map(|name| name.to_string_lossy().into_owned());
        Self {
            controllers: tree.controllers.clone(),
            tree: name.unwrap_or_default(),
            dir: tree.dir.join(relative),
        }
    }
}

/// The path without its leading slash, if it is absolute and plain.
fn checked(path: &Path) -> Result<&Path, CgroupError> {
    let refused = || CgroupError::Path { path: path.to_owned() };
    let relative = path.strip_prefix("/").map_err(|_| refused())?;
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
    (plain && relative.components().next().is_some()).then_some(relative).ok_or_else(refused)
}

fn join(dir: &Path, pid: Pid) -> Result<(), CgroupError> {
    write(&dir.join("cgroup.procs"), &pid.as_raw_nonzero().to_string())
}

/// Writes a value to a control file, which must exist.
fn write(file: &Path, value: &str) -> Result<(), CgroupError> {
    use std::io::Write;
    let written =
        fs::OpenOptions::new().write(true).open(file).and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Write { file: file.to_owned(), value: value.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_plain_paths_are_taken() {
        assert_eq!(checked(Path::new("/carve/web")).unwrap(), Path::new("carve/web"));
        for path in ["", "/", "carve/web", "/carve/../x", "/.."] {
            assert!(matches!(checked(Path::new(path)), Err(CgroupError::Path { .. })), "{path}");
        }
    }
}
