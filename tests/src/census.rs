//! What is on a host that carve could have left there.

use std::{collections::BTreeSet, fs, path::Path};

/// Mounts, links, cgroups, processes and firewall tables at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census(BTreeSet<String>);

impl Census {
    /// Counts what belongs to the calling thread's namespaces, all cgroups of carve or named for a directory, its state in that directory, and the
    /// processes that name it on their command line or have something of it mounted in a mount namespace
    /// of their own: those of containers.
    #[must_use]
    pub fn take(dir: &Path) -> Self {
        let mut found = BTreeSet::new();
        found.extend(mounts().into_iter().map(|m| format!("mount {m}")));
        found.extend(links().into_iter().map(|l| format!("link {l}")));
        found.extend(cgroups(dir).into_iter().map(|c| format!("cgroup {c}")));
        found.extend(processes(dir).into_iter().map(|p| format!("process {p}")));
        found.extend(tables().into_iter().map(|t| format!("nft {t}")));
        found.extend(entries(&dir.join("root/instances")).into_iter().map(|i| format!("instance {i}")));
        found.extend(entries(&dir.join("oci")).into_iter().map(|i| format!("container {i}")));
        Self(found)
    }

    /// What is here and was not there.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    text.lines().filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect()
}

fn links() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("net/dev");
    text.lines().skip(2).filter_map(|l| l.split(':').next()).map(|n| n.trim().to_owned()).collect()
}

fn cgroups(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in entries(Path::new("/sys/fs/cgroup")).into_iter().chain([".".to_owned()]) {
        let top = entries(&Path::new("/sys/fs/cgroup").join(&hierarchy));
        found.extend(
            top.into_iter()
                .filter(|group| group.contains(name(dir)))
                .map(|group| format!("{hierarchy}/{group}")),
        );
        for parent in ["carve", "carve-oci"] {
            let ours = Path::new("/sys/fs/cgroup").join(&hierarchy).join(parent);
            let dirs = entries(&ours).into_iter().filter(|e| ours.join(e).is_dir());
            found.extend(dirs.map(|id| format!("{hierarchy}/{parent}/{id}")));
        }
    }
    found
}

fn processes(dir: &Path) -> Vec<String> {
    let own = fs::read_link("/proc/thread-self/ns/mnt").ok();
    let name = name(dir);
    entries(Path::new("/proc"))
        .into_iter()
        .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let elsewhere = || fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|ns| Some(ns) != own);
            // Their paths are those of the filesystem that the directory is on.
            let mounts = || fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            (line.contains(name) || elsewhere() && mounts().contains(name)).then(|| format!("{pid} {line}"))
        })
        .collect()
}

/// A name that no other test's directory has.
fn name(dir: &Path) -> &str {
    dir.file_name().and_then(|name| name.to_str()).expect("temporary directories are UTF-8")
}

fn tables() -> Vec<String> {
    let output = std::process::Command::new("nft").args(["list", "tables"]).output().expect("nft runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
}
