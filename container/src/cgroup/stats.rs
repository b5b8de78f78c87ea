//! What a group has used so far.

use std::fs;
use std::path::Path;

use super::figures::{keyed, number};
use super::{Cgroup, CgroupError};

/// Resources used by a group and the groups below it. What the host does not account for is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Memory charged to the group.
    pub memory: Option<MemoryStats>,
    /// CPU time used, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Processes killed because the memory limit was reached.
    pub oom_kills: Option<u64>,
}

/// Memory charged to a group, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All of it: what the limit counts.
    pub usage_bytes: u64,
    /// The most there ever was.
    pub peak_bytes: Option<u64>,
    /// Anonymous memory: heaps, stacks.
    pub anon_bytes: u64,
    /// The page cache of files, and shared memory.
    pub file_bytes: u64,
    /// The kernel's own memory on behalf of the group.
    pub kernel_bytes: Option<u64>,
    /// The part of that in slabs; v1 does not tell.
    pub slab_bytes: Option<u64>,
}

/// Reads the statistics from whichever tree has the controller.
pub(super) fn read(group: &Cgroup) -> Result<CgroupStats, CgroupError> {
    let v2 = group.v2_dir();
    let v2_has = |file: &str| v2.filter(|dir| dir.join(file).exists());
    let mut stats = CgroupStats::default();
    if let Some(dir) = group.v1_dir("memory") {
        stats.memory = Some(memory_v1(dir)?);
        stats.oom_kills = keyed(&read_file(dir, "memory.oom_control")?, "oom_kill");
    } else if let Some(dir) = v2_has("memory.current") {
        stats.memory = Some(memory_v2(dir)?);
        stats.oom_kills = keyed(&read_file(dir, "memory.events")?, "oom_kill");
    }
    if let Some(dir) = group.v1_dir("cpuacct") {
        stats.cpu_usage_ns = number(&read_file(dir, "cpuacct.usage")?);
    } else if let Some(dir) = v2_has("cpu.stat") {
        let usage_us = keyed(&read_file(dir, "cpu.stat")?, "usage_usec");
        stats.cpu_usage_ns = usage_us.map(|us| us.saturating_mul(1000));
    }
    if let Some(dir) = group.v1_dir("pids").or_else(|| v2_has("pids.current")) {
        stats.pids = number(&read_file(dir, "pids.current")?);
    }
    Ok(stats)
}

fn memory_v1(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let stat = read_file(dir, "memory.stat")?;
    Ok(MemoryStats {
        usage_bytes: number(&read_file(dir, "memory.usage_in_bytes")?).unwrap_or(0),
        peak_bytes: optional(dir, "memory.max_usage_in_bytes"),
        anon_bytes: keyed(&stat, "total_rss").unwrap_or(0),
        file_bytes: keyed(&stat, "total_cache").unwrap_or(0),
        kernel_bytes: optional(dir, "memory.kmem.usage_in_bytes"),
        slab_bytes: None,
    })
}

fn memory_v2(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let stat = read_file(dir, "memory.stat")?;
    Ok(MemoryStats {
        usage_bytes: number(&read_file(dir, "memory.current")?).unwrap_or(0),
        peak_bytes: optional(dir, "memory.peak"),
        anon_bytes: keyed(&stat, "anon").unwrap_or(0),
        file_bytes: keyed(&stat, "file").unwrap_or(0),
        kernel_bytes: keyed(&stat, "kernel"),
        slab_bytes: keyed(&stat, "slab"),
    })
}

fn read_file(dir: &Path, name: &str) -> Result<String, CgroupError> {
    let file = dir.join(name);
    fs::read_to_string(&file).map_err(|source| CgroupError::Read { file, source })
}

fn optional(dir: &Path, name: &str) -> Option<u64> {
    number(&fs::read_to_string(dir.join(name)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn v1_figures() {
        let files = [
            ("memory.stat", "cache 1\nrss 2\ntotal_cache 4096\ntotal_rss 8192\ntotal_rss_huge 1\n"),
            ("memory.usage_in_bytes", "20000\n"),
            ("memory.max_usage_in_bytes", "30000\n"),
            ("memory.kmem.usage_in_bytes", "5000\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("cpuacct.usage", "123456789\n"),
            ("pids.current", "7\n"),
        ];
        let (_dir, group) = fake::v1(&["memory", "cpuacct", "pids"], &files);
        let stats = read(&group).unwrap();
        let memory = stats.memory.unwrap();
        assert_eq!((memory.anon_bytes, memory.file_bytes, memory.usage_bytes), (8192, 4096, 20000));
        assert_eq!(
            (memory.kernel_bytes, memory.slab_bytes, memory.peak_bytes),
            (Some(5000), None, Some(30000))
        );
        assert_eq!((stats.oom_kills, stats.cpu_usage_ns, stats.pids), (Some(3), Some(123_456_789), Some(7)));
    }

    #[test]
    fn v2_figures() {
        let files = [
            ("memory.stat", "anon 8192\nfile 4096\nkernel 1000\nslab 300\nanon_thp 5\n"),
            ("memory.current", "20000\n"),
            ("memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 0\n"),
            ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
        ];
        let (_dir, group) = fake::v2(&files);
        let stats = read(&group).unwrap();
        let memory = stats.memory.unwrap();
        assert_eq!(
            (memory.anon_bytes, memory.kernel_bytes, memory.slab_bytes),
            (8192, Some(1000), Some(300))
        );
        assert_eq!((stats.oom_kills, stats.cpu_usage_ns, stats.pids), (Some(2), Some(5000), None));
    }
}
