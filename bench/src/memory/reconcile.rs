//! Holds the cgroup view against the process view. What neither explains is printed, not hidden.

use serde::{Deserialize, Serialize};

use super::{CgroupMemory, ProcessMemory};

/// The cgroup's total, taken apart. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// What the cgroup is charged.
    pub cgroup_total: u64,
    /// The proportional set sizes of the processes in the cgroup.
    pub processes: u64,
    /// Files in memory that no process maps; absent when the controller does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmapped_files: Option<u64>,
    /// The kernel's memory on behalf of the cgroup; absent when the controller does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<u64>,
    /// `cgroup_total` less all of the above. Positive: charged and not seen in a process (batches of per-CPU
    /// charges, pages of processes that ended). Negative: pages that the processes map and another cgroup was
    /// charged for, such as a binary that was in memory already.
    pub remainder: i64,
}

/// Takes the total of `cgroup` apart, with the processes that are in it.
#[must_use]
pub fn reconcile(cgroup: &CgroupMemory, processes: &[ProcessMemory]) -> Reconciliation {
    let inside: u64 = processes.iter().filter(|p| p.in_cgroup == Some(true)).map(|p| p.pss_bytes).sum();
    let cached = cgroup.file.map(|file| file + cgroup.shmem.unwrap_or(0));
    let unmapped_files = cached.zip(cgroup.mapped).map(|(cached, mapped)| cached.saturating_sub(mapped));
    let explained = inside + unmapped_files.unwrap_or(0) + cgroup.kernel.unwrap_or(0);
    let remainder = i128::from(cgroup.total) - i128::from(explained);
    Reconciliation {
        cgroup_total: cgroup.total,
        processes: inside,
        unmapped_files,
        kernel: cgroup.kernel,
        remainder: i64::try_from(remainder).expect("sizes of memory are far below 2^63"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Role;

    fn process(pss_bytes: u64, in_cgroup: bool) -> ProcessMemory {
        let in_cgroup = Some(in_cgroup);
        ProcessMemory {
            pid: 1,
            name: "x".into(),
            role: Role::App,
            pss_bytes,
            guest_ram_bytes: None,
            in_cgroup,
        }
    }

    #[test]
    fn the_parts_add_up_to_the_total() {
        let cgroup = CgroupMemory {
            total: 10_000,
            file: Some(3000),
            shmem: Some(1000),
            mapped: Some(2500),
            kernel: Some(800),
            ..CgroupMemory::default()
        };
        let got = reconcile(&cgroup, &[process(6000, true), process(500, true), process(9999, false)]);
        assert_eq!(got.processes, 6500);
        assert_eq!(got.unmapped_files, Some(1500));
        assert_eq!(got.remainder, 10_000 - 6500 - 1500 - 800);
    }

    #[test]
    fn pages_charged_elsewhere_make_the_remainder_negative() {
        let cgroup = CgroupMemory { total: 1000, ..CgroupMemory::default() };
        let got = reconcile(&cgroup, &[process(1500, true)]);
        assert_eq!((got.remainder, got.kernel), (-500, None));
    }
}
