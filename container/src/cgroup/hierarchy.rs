//! Finds out which cgroup trees the host has, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// The cgroup trees that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// The v1 trees, each with its controllers. Named ones without controllers are left out.
    pub v1: Vec<V1Tree>,
    /// The v2 tree.
    pub v2: Option<V2Tree>,
}

/// A v1 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Tree {
    /// Its controllers, like `cpu` and `cpuacct`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub dir: PathBuf,
}

impl V1Tree {
    /// Whether the tree has this controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// The v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Tree {
    /// Its controllers.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub dir: PathBuf,
}

/// The shape of the host's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HierarchyKind {
    /// No cgroups are mounted.
    None,
    /// A tree for each controller.
    V1,
    /// Controllers in v1 trees, and a v2 tree beside them.
    Hybrid,
    /// One tree.
    V2,
}

/// Room for the mountinfo of a host that has few mounts.
const MOUNTINFO_BYTES: usize = 16 << 10;

/// Options of a v1 mount that are no controllers (cgroups(7), kernel/cgroup/cgroup-v1.c).
const NOT_CONTROLLERS: [&str; 9] = [
    "rw",
    "ro",
    "xattr",
    "noprefix",
    "clone_children",
    "cpuset_v2_mode",
    "favordynmods",
    "nofavordynmods",
    "nsdelegate",
];

impl Hierarchy {
    /// Reads which trees are mounted below `root`, which is `/` outside of tests.
    ///
    /// # Errors
    /// When /proc/self/mountinfo cannot be read.
    pub fn detect(root: &Path) -> Result<Self, CgroupError> {
        let path = root.join("proc/self/mountinfo");
        // The kernel does not say how long it is; a buffer that grows from nothing would take eight reads.
        let mut text = Vec::with_capacity(MOUNTINFO_BYTES);
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut text))
            .map_err(|source| CgroupError::Detect { path, source })?;
        let mut found = Self::default();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((fs_type, mount_point, options)) = parse_line(line) else { continue };
            let dir = root.join(mount_point.trim_start_matches('/'));
            match fs_type {
                "cgroup" => found.add_v1(dir, options),
                "cgroup2" if found.v2.is_none() => {
                    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                    let controllers = controllers.split_whitespace().map(str::to_owned).collect();
                    found.v2 = Some(V2Tree { controllers, dir });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The shape of the host's cgroups.
    pub fn kind(&self) -> HierarchyKind {
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => HierarchyKind::None,
            (true, Some(_)) => HierarchyKind::V2,
            (false, None) => HierarchyKind::V1,
            (false, Some(_)) => HierarchyKind::Hybrid,
        }
    }

    /// Whether any tree has this controller.
    pub fn has_controller(&self, controller: &str) -> bool {
        self.has_v1(controller) || self.has_v2(controller)
    }

    /// Whether a v1 tree has this controller.
    pub(super) fn has_v1(&self, controller: &str) -> bool {
        self.v1.iter().any(|tree| tree.has(controller))
    }

    /// Whether the v2 tree has it. What every group has is called `cgroup`, like a controller.
    pub(super) fn has_v2(&self, controller: &str) -> bool {
        let has = |tree: &V2Tree| controller == "cgroup" || tree.controllers.iter().any(|c| c == controller);
        self.v2.as_ref().is_some_and(has)
    }

    fn add_v1(&mut self, dir: PathBuf, options: &str) {
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| !option.contains('=') && !NOT_CONTROLLERS.contains(option))
            .map(str::to_owned)
            .collect();
        // A tree that is mounted twice is used where it was mounted first.
        if !controllers.is_empty() && !self.v1.iter().any(|tree| tree.controllers == controllers) {
            self.v1.push(V1Tree { controllers, dir });
        }
    }
}

/// Type, mount point and filesystem options of a line of mountinfo.
fn parse_line(line: &str) -> Option<(&str, String, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mount_point = mount.split(' ').nth(4)?;
    let mut filesystem = filesystem.split(' ');
    let fs_type = filesystem.next()?;
    Some((fs_type, unescape(mount_point), filesystem.nth(1)?))
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(mountinfo: &str, controllers: &[(&str, &str)]) -> Hierarchy {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), mountinfo).unwrap();
        for (dir, list) in controllers {
            let dir = root.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.controllers"), list).unwrap();
        }
        let mut found = Hierarchy::detect(root.path()).unwrap();
        let strip = |dir: &mut PathBuf| *dir = Path::new("/").join(dir.strip_prefix(root.path()).unwrap());
        found.v1.iter_mut().for_each(|tree| strip(&mut tree.dir));
        found.v2.iter_mut().for_each(|tree| strip(&mut tree.dir));
        found
    }

    #[test]
    fn a_v2_host() {
        let line = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = detect(line, &[("sys/fs/cgroup", "cpuset cpu io memory pids\n")]);
        assert_eq!(found.kind(), HierarchyKind::V2);
        assert!(found.has_controller("memory"));
        assert!(!found.has_controller("devices"));
    }

    #[test]
    fn a_hybrid_host() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            36 31 0:32 / /mnt/again rw - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = detect(mountinfo, &[("sys/fs/cgroup/unified", "hugetlb\n")]);
        assert_eq!(found.kind(), HierarchyKind::Hybrid);
        let dirs: Vec<_> = found.v1.iter().map(|tree| tree.dir.to_str().unwrap()).collect();
        assert_eq!(dirs, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"]);
        assert_eq!(found.v2.unwrap().controllers, ["hugetlb"]);
    }

    #[test]
    fn no_cgroups_and_odd_lines() {
        let found = detect("garbage\n1 2 3\n22 27 0:21 / /proc rw - proc proc rw\n - \n", &[]);
        assert_eq!(found.kind(), HierarchyKind::None);
    }

    #[test]
    fn mount_points_are_unescaped() {
        let found = detect("1 1 0:1 / /a\\040b rw - cgroup cgroup rw,pids", &[]);
        assert_eq!(found.v1[0].dir, Path::new("/a b"));
    }
}
