//! What a group has used, in the words of `events`: those of runc, which its callers parse.
//!
//! [`Usage`] is what is printed; `v1.rs` and `v2.rs` read it. What the host does not account for is left at 0, as there.

mod pressure;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{Cgroup, figures};

pub use pressure::{Pressure, Waited};

/// Resources used by a group and the groups below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: BlockIo,
    /// Huge pages, by their size.
    pub hugetlb: BTreeMap<String, HugePages>,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Used, in nanoseconds.
    pub usage: CpuTime,
    /// Withheld.
    pub throttling: Throttling,
    /// How long processes waited for it; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time used, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuTime {
    /// All.
    pub total: u64,
    /// By each CPU; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// What the quota withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods so far.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// For how long, in nanoseconds.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The page cache.
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// The kernel's own, on behalf of the group.
    pub kernel: MemoryEntry,
    /// Buffers of TCP.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// The lines of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How long processes waited for it; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One count of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// The most there may be; without a limit the largest number.
    pub limit: u64,
    /// What there is.
    pub usage: u64,
    /// The most there was.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// At most; 0 without a limit.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// How long processes waited for it; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One count of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// The device's numbers.
    pub major: u64,
    /// The other one.
    pub minor: u64,
    /// `Read`, `Write` and so on.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// What there is.
    pub usage: u64,
    /// The most there was; v1 only.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Reads it from whichever trees have the controllers. A figure that cannot be read is 0: the group may be on its way out.
pub(super) fn read(group: &Cgroup) -> Usage {
    let mut usage = Usage::default();
    if let Some(dir) = group.v2_dir() {
        v2::read(dir, &mut usage);
    }
    v1::read(group, &mut usage);
    usage
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn number(dir: &Path, name: &str) -> u64 {
    figures::number(&text(dir, name)).unwrap_or(0)
}

fn keyed(text: &str, key: &str) -> u64 {
    figures::keyed(text, key).unwrap_or(0)
}

/// All of a file's lines.
fn table(text: &str) -> BTreeMap<String, u64> {
    figures::lines(text).map(|(key, number)| (key.to_owned(), number)).collect()
}

/// The sizes of huge pages that have a file with this ending, like `.current`.
fn huge_page_sizes(dir: &Path, ending: &str) -> Vec<String> {
    let names = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let size = |name: String| Some(name.strip_prefix("hugetlb.")?.strip_suffix(ending)?.to_owned());
    names.filter_map(size).filter(|size| !size.contains('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn v1_figures() {
        let files = [
            ("cpuacct.usage", "300\n"),
            ("cpuacct.usage_percpu", "100 200 \n"),
            ("cpuacct.stat", "user 2\nsystem 3\n"),
            ("cpu.stat", "nr_periods 5\nnr_throttled 4\nthrottled_time 3\n"),
            ("memory.stat", "cache 4096\nrss 8192\n"),
            ("memory.usage_in_bytes", "10\n"),
            ("memory.limit_in_bytes", "11\n"),
            ("memory.max_usage_in_bytes", "12\n"),
            ("memory.failcnt", "13\n"),
            ("memory.memsw.usage_in_bytes", "14\n"),
            ("pids.current", "7\n"),
            ("pids.max", "max\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 512\n8:0 Total 512\nTotal 512\n"),
            ("hugetlb.2MB.usage_in_bytes", "5\n"),
        ];
        let controllers = ["memory", "cpu", "cpuacct", "pids", "blkio", "hugetlb"];
        let (_dir, group) = fake::v1(&controllers, &files);
        let usage = read(&group);
        let json = serde_json::to_value(&usage).unwrap();
        assert_eq!(json["cpu"]["usage"]["total"], 300);
        assert_eq!(json["cpu"]["usage"]["percpu"][1], 200);
        assert_eq!(json["cpu"]["usage"]["user"], 20_000_000);
        assert_eq!(json["cpu"]["throttling"]["throttledPeriods"], 4);
        assert_eq!(json["memory"]["cache"], 4096);
        assert_eq!(json["memory"]["usage"]["limit"], 11);
        assert_eq!(json["memory"]["swap"]["usage"], 14);
        assert_eq!(json["memory"]["raw"]["rss"], 8192);
        assert_eq!(json["pids"], serde_json::json!({"current": 7, "limit": 0}));
        assert_eq!(json["blkio"]["ioServiceBytesRecursive"][0]["op"], "Read");
        assert_eq!(json["blkio"]["ioServiceBytesRecursive"].as_array().unwrap().len(), 2);
        assert_eq!(json["hugetlb"]["2MB"]["usage"], 5);
    }

    #[test]
    fn v2_figures() {
        let files = [
            (
                "cpu.stat",
                "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 8\nthrottled_usec 7\n",
            ),
            ("memory.stat", "anon 8192\nfile 4096\n"),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nmax 6\n"),
            ("memory.swap.current", "50\n"),
            ("pids.current", "2\n"),
            ("pids.max", "10\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "5\n"),
            ("hugetlb.2MB.rsvd.current", "9\n"),
            ("hugetlb.2MB.events", "max 1\n"),
            (
                "io.pressure",
                "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8\n",
            ),
        ];
        let (_dir, group) = fake::v2(&files);
        let usage = read(&group);
        assert_eq!((usage.cpu.usage.total, usage.cpu.throttling.throttled_time), (5000, 7000));
        assert_eq!((usage.memory.usage.limit, usage.memory.usage.failcnt), (u64::MAX, 6));
        assert_eq!((usage.memory.swap.usage, usage.memory.cache), (150, 4096));
        assert_eq!(usage.pids, Pids { current: 2, limit: 10 });
        let ops: Vec<_> =
            usage.blkio.io_service_bytes_recursive.iter().map(|e| (e.op.as_str(), e.value)).collect();
        assert_eq!(ops, [("Read", 1), ("Write", 2), ("Discard", 0)]);
        assert_eq!(usage.hugetlb.len(), 1);
        let json = serde_json::to_value(&usage).unwrap();
        assert_eq!(
            json["blkio"]["psi"]["some"],
            serde_json::json!({"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 9})
        );
        assert!(json["cpu"].get("psi").is_none(), "a kernel that does not count");
        assert_eq!(usage.hugetlb["2MB"], HugePages { usage: 5, max: 0, failcnt: 1 });
    }
}
