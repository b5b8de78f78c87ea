//! Figures of the v2 tree.

use std::path::Path;

use super::{
    BlockIoEntry, HugePages, MemoryEntry, Pressure, Usage, huge_page_sizes, keyed, number, table, text,
};
use crate::cgroup::figures;

/// Reads what there is.
pub(super) fn read(dir: &Path, usage: &mut Usage) {
    let stat = text(dir, "cpu.stat");
    let ns = |key| keyed(&stat, key).saturating_mul(1000);
    usage.cpu.usage.total = ns("usage_usec");
    usage.cpu.usage.user = ns("user_usec");
    usage.cpu.usage.kernel = ns("system_usec");
    usage.cpu.throttling.periods = keyed(&stat, "nr_periods");
    usage.cpu.throttling.throttled_periods = keyed(&stat, "nr_throttled");
    usage.cpu.throttling.throttled_time = ns("throttled_usec");
    usage.pids.current = number(dir, "pids.current");
    usage.pids.limit = number(dir, "pids.max");
    if dir.join("memory.current").exists() {
        memory(dir, usage);
    }
    block_io(&text(dir, "io.stat"), usage);
    let pressure = |name| Pressure::parse(&text(dir, name));
    usage.cpu.psi = pressure("cpu.pressure");
    usage.memory.psi = pressure("memory.pressure");
    usage.blkio.psi = pressure("io.pressure");
    for size in huge_page_sizes(dir, ".current") {
        let pages = HugePages {
            usage: number(dir, &format!("hugetlb.{size}.current")),
            max: 0,
            failcnt: keyed(&text(dir, &format!("hugetlb.{size}.events")), "max"),
        };
        usage.hugetlb.insert(size, pages);
    }
}

fn memory(dir: &Path, usage: &mut Usage) {
    let stat = text(dir, "memory.stat");
    usage.memory.raw = table(&stat);
    usage.memory.cache = keyed(&stat, "file");
    let memory = MemoryEntry {
        limit: limit(dir, "memory.max"),
        usage: number(dir, "memory.current"),
        max: number(dir, "memory.peak"),
        failcnt: keyed(&text(dir, "memory.events"), "max"),
    };
    usage.memory.usage = memory;
    // Here, as with v1, memory and swap together.
    usage.memory.swap = MemoryEntry {
        limit: memory.limit.saturating_add(limit(dir, "memory.swap.max")),
        usage: memory.usage.saturating_add(number(dir, "memory.swap.current")),
        ..MemoryEntry::default()
    };
}

/// A file that holds a number, or `max`.
fn limit(dir: &Path, name: &str) -> u64 {
    let text = text(dir, name);
    if text.trim() == "max" { u64::MAX } else { figures::number(&text).unwrap_or(0) }
}

/// The lines `major:minor key=count …`.
fn block_io(text: &str, usage: &mut Usage) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let op = match key.as_bytes().first() {
                Some(b'r') => "Read",
                Some(b'w') => "Write",
                _ => "Discard",
            };
            let Ok(value) = value.parse() else { continue };
            let entry = BlockIoEntry { major, minor, op: op.to_owned(), value };
            match key {
                "rbytes" | "wbytes" | "dbytes" => usage.blkio.io_service_bytes_recursive.push(entry),
                "rios" | "wios" | "dios" => usage.blkio.io_serviced_recursive.push(entry),
                _ => {}
            }
        }
    }
}
