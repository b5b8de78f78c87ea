//! The cgroup view, from version 1 or 2 of the memory controller (kernel: Documentation/admin-guide/cgroup-v1/memory
//! and cgroup-v2). Version 1's hierarchical figures are those named `total_…`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What the kernel charges to a cgroup, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMemory {
    /// Everything.
    pub total: u64,
    /// Anonymous memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anon: Option<u64>,
    /// Files kept in memory, shared memory not included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// Shared memory, of which a guest's RAM is a kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shmem: Option<u64>,
    /// Files and shared memory that are mapped into some process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped: Option<u64>,
    /// The kernel's own memory on behalf of the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<u64>,
    /// The part of `kernel` that is slab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab: Option<u64>,
    /// The part of `kernel` that is page tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_tables: Option<u64>,
}

/// The memory of the cgroup at `directory`; `None` when there is none, or no memory controller on it.
#[must_use]
pub fn read(directory: &Path) -> Option<CgroupMemory> {
    let file = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let stat = file("memory.stat")?;
    match file("memory.current") {
        Some(current) => version_2(&current, &stat),
        None => {
            version_1(&file("memory.usage_in_bytes")?, file("memory.kmem.usage_in_bytes").as_deref(), &stat)
        }
    }
}

/// The processes in the cgroup at `directory` itself, not below it.
#[must_use]
pub fn processes(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn version_1(usage: &str, kmem: Option<&str>, stat: &str) -> Option<CgroupMemory> {
    let cache = field(stat, "total_cache");
    let shmem = field(stat, "total_shmem");
    Some(CgroupMemory {
        total: usage.trim().parse().ok()?,
        anon: field(stat, "total_rss"),
        file: cache.map(|cache| cache.saturating_sub(shmem.unwrap_or(0))),
        shmem,
        mapped: field(stat, "total_mapped_file"),
        kernel: kmem.and_then(|text| text.trim().parse().ok()),
        slab: None,
        page_tables: None,
    })
}

fn version_2(current: &str, stat: &str) -> Option<CgroupMemory> {
    let shmem = field(stat, "shmem");
    Some(CgroupMemory {
        total: current.trim().parse().ok()?,
        anon: field(stat, "anon"),
        file: field(stat, "file").map(|file| file.saturating_sub(shmem.unwrap_or(0))),
        shmem,
        mapped: field(stat, "file_mapped"),
        kernel: field(stat, "kernel"),
        slab: field(stat, "slab"),
        page_tables: field(stat, "pagetables"),
    })
}

fn field(stat: &str, name: &str) -> Option<u64> {
    let line = stat.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in files {
            fs::write(dir.path().join(name), content).expect("written");
        }
        dir
    }

    #[test]
    fn reads_version_1() {
        let dir = directory(&[
            ("memory.usage_in_bytes", "9000\n"),
            ("memory.kmem.usage_in_bytes", "700\n"),
            (
                "memory.stat",
                "cache 1\nrss 2\ntotal_cache 5000\ntotal_rss 3000\ntotal_shmem 1000\ntotal_mapped_file 4000\n",
            ),
            ("cgroup.procs", "12\n34\n"),
        ]);
        let expected = CgroupMemory {
            total: 9000,
            anon: Some(3000),
            file: Some(4000),
            shmem: Some(1000),
            mapped: Some(4000),
            kernel: Some(700),
            slab: None,
            page_tables: None,
        };
        assert_eq!(read(dir.path()), Some(expected));
        assert_eq!(processes(dir.path()), [12, 34]);
    }

    #[test]
    fn reads_version_2() {
        let dir = directory(&[
            ("memory.current", "9000\n"),
            (
                "memory.stat",
                "anon 3000\nfile 5000\nkernel 700\npagetables 200\nshmem 1000\nfile_mapped 4000\nslab 300\n",
            ),
        ]);
        let memory = read(dir.path()).expect("a memory cgroup");
        assert_eq!((memory.file, memory.slab, memory.page_tables), (Some(4000), Some(300), Some(200)));
        assert_eq!((memory.total, memory.kernel), (9000, Some(700)));
    }

    #[test]
    fn a_directory_without_the_controller_has_no_memory() {
        assert_eq!(read(directory(&[]).path()), None);
    }
}
