//! Figures of v1 trees.

use std::path::Path;

use super::{BlockIoEntry, HugePages, MemoryEntry, Usage, huge_page_sizes, keyed, number, table, text};
use crate::cgroup::Cgroup;

/// Nanoseconds in a tick of `cpuacct.stat`: USER_HZ is 100 wherever Linux runs nowadays (time(7)).
const TICK_NS: u64 = 10_000_000;

/// Reads what there is.
pub(super) fn read(group: &Cgroup, usage: &mut Usage) {
    if let Some(dir) = group.v1_dir("cpuacct") {
        usage.cpu.usage.total = number(dir, "cpuacct.usage");
        let percpu = text(dir, "cpuacct.usage_percpu");
        usage.cpu.usage.percpu = percpu.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let stat = text(dir, "cpuacct.stat");
        let ns = |key| keyed(&stat, key).saturating_mul(TICK_NS);
        (usage.cpu.usage.user, usage.cpu.usage.kernel) = (ns("user"), ns("system"));
    }
    if let Some(dir) = group.v1_dir("cpu") {
        let stat = text(dir, "cpu.stat");
        usage.cpu.throttling.periods = keyed(&stat, "nr_periods");
        usage.cpu.throttling.throttled_periods = keyed(&stat, "nr_throttled");
        usage.cpu.throttling.throttled_time = keyed(&stat, "throttled_time");
    }
    if let Some(dir) = group.v1_dir("memory") {
        memory(dir, usage);
    }
    if let Some(dir) = group.v1_dir("pids") {
        usage.pids.current = number(dir, "pids.current");
        usage.pids.limit = number(dir, "pids.max");
    }
    if let Some(dir) = group.v1_dir("blkio") {
        usage.blkio.io_service_bytes_recursive =
            entries(&text(dir, "blkio.throttle.io_service_bytes_recursive"));
        usage.blkio.io_serviced_recursive = entries(&text(dir, "blkio.throttle.io_serviced_recursive"));
    }
    if let Some(dir) = group.v1_dir("hugetlb") {
        for size in huge_page_sizes(dir, ".usage_in_bytes") {
            let pages = HugePages {
                usage: number(dir, &format!("hugetlb.{size}.usage_in_bytes")),
                max: number(dir, &format!("hugetlb.{size}.max_usage_in_bytes")),
                failcnt: number(dir, &format!("hugetlb.{size}.failcnt")),
            };
            usage.hugetlb.insert(size, pages);
        }
    }
}

fn memory(dir: &Path, usage: &mut Usage) {
    let entry = |part: &str| MemoryEntry {
        limit: number(dir, &format!("memory.{part}limit_in_bytes")),
        usage: number(dir, &format!("memory.{part}usage_in_bytes")),
        max: number(dir, &format!("memory.{part}max_usage_in_bytes")),
        failcnt: number(dir, &format!("memory.{part}failcnt")),
    };
    let stat = text(dir, "memory.stat");
    usage.memory.raw = table(&stat);
    usage.memory.cache = keyed(&stat, "cache");
    usage.memory.usage = entry("");
    usage.memory.swap = entry("memsw.");
    usage.memory.kernel = entry("kmem.");
    usage.memory.kernel_tcp = entry("kmem.tcp.");
}

/// The lines `major:minor operation count`.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let op = words.next()?.to_owned();
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op,
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}
