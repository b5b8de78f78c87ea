//! What an instance's memory is made of, for the stacked picture: the process view, with a guest's RAM taken apart by
//! the guest's own view.

use serde::{Deserialize, Serialize};

use super::{Memory, Role};
use crate::statistics::quantile::median;

/// A part of an instance's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// The median over the samples, in bytes.
    pub bytes: f64,
}

/// The kinds of memory an instance is made of, from the app outwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// The app's processes; in a VM, anonymous memory other than the agent's.
    App,
    /// The agent in a guest.
    Agent,
    /// Files kept in the guest's memory.
    GuestPageCache,
    /// What a guest's kernel allocated: slab, stacks, page tables.
    GuestKernel,
    /// The rest of the guest's RAM that the host holds: the kernel's image and tables, and pages the guest used once
    /// and freed.
    GuestRest,
    /// A guest's RAM, where the guest's own view of it is absent.
    GuestRam,
    /// The VMM, guest RAM apart.
    Vmm,
    /// The monitor of a container.
    Monitor,
    /// The command in the foreground.
    Command,
}

impl PartKind {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Agent => "agent in the guest",
            Self::GuestPageCache => "guest page cache",
            Self::GuestKernel => "guest kernel data",
            Self::GuestRest => "guest kernel image, and RAM once touched",
            Self::GuestRam => "guest RAM",
            Self::Vmm => "VMM",
            Self::Monitor => "monitor",
            Self::Command => "carve command",
        }
    }

    /// Its name in a style sheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::App => "c-app",
            Self::Agent => "c-agent",
            Self::GuestPageCache => "c-files",
            Self::GuestKernel => "c-guest",
            Self::GuestRest | Self::GuestRam => "c-rest",
            Self::Vmm => "c-isolation",
            Self::Monitor => "c-engine",
            Self::Command => "c-network",
        }
    }
}

/// One instance's memory by kind, in bytes; the sum is its process view.
#[must_use]
pub fn of(memory: &Memory) -> Vec<(PartKind, u64)> {
    let role = |wanted| {
        let of_role: Vec<_> = memory.processes.iter().filter(|p| p.role == wanted).collect();
        let own = |p: &&super::ProcessMemory| p.pss_bytes.saturating_sub(p.guest_ram_bytes.unwrap_or(0));
        (!of_role.is_empty()).then(|| of_role.iter().map(own).sum::<u64>())
    };
    let mut parts = Vec::new();
    parts.extend(role(Role::App).map(|bytes| (PartKind::App, bytes)));
    if let Some(ram) = memory.guest_ram_bytes {
        match &memory.guest {
            None => parts.push((PartKind::GuestRam, ram)),
            Some(guest) => {
                // Host pages bound what is shown: the guest counts a page of zeroes that the host never backed, too.
                let mut left = ram;
                let mut take = |kind, bytes: u64| {
                    let taken = bytes.min(left);
                    left -= taken;
                    parts.push((kind, taken));
                };
                take(PartKind::Agent, guest.agent);
                take(PartKind::App, guest.anon.saturating_sub(guest.agent));
                take(PartKind::GuestPageCache, guest.page_cache);
                take(PartKind::GuestKernel, guest.kernel);
                parts.push((PartKind::GuestRest, left));
            }
        }
    }
    parts.extend(role(Role::Vmm).map(|bytes| (PartKind::Vmm, bytes)));
    parts.extend(role(Role::Monitor).map(|bytes| (PartKind::Monitor, bytes)));
    parts.extend(role(Role::Command).map(|bytes| (PartKind::Command, bytes)));
    parts
}

/// The medians of the parts over several samples, in the order of [`PartKind`].
#[must_use]
pub fn medians(memories: &[&Memory]) -> Vec<Part> {
    let all: Vec<Vec<(PartKind, u64)>> = memories.iter().map(|memory| of(memory)).collect();
    let mut kinds: Vec<PartKind> = all.iter().flatten().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let of_kind = |kind| {
        let in_sample = |parts: &Vec<(PartKind, u64)>| {
            let same: Vec<u64> = parts.iter().filter(|(k, _)| *k == kind).map(|(_, bytes)| *bytes).collect();
            (!same.is_empty()).then(|| same.iter().sum::<u64>() as f64)
        };
        let values: Vec<f64> = all.iter().filter_map(in_sample).collect();
        median(&values).map(|bytes| Part { kind, bytes })
    };
    kinds.into_iter().filter_map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GuestMemory, ProcessMemory};

    fn process(role: Role, pss_bytes: u64, guest_ram_bytes: Option<u64>) -> ProcessMemory {
        ProcessMemory { pid: 1, name: "x".into(), role, pss_bytes, guest_ram_bytes, in_cgroup: None }
    }

    fn memory(processes: Vec<ProcessMemory>, guest: Option<GuestMemory>) -> Memory {
        Memory {
            process_bytes: processes.iter().map(|p| p.pss_bytes).sum(),
            guest_ram_bytes: processes.iter().find_map(|p| p.guest_ram_bytes),
            processes,
            cgroup: None,
            guest,
            reconciliation: None,
            cpu_ns: None,
        }
    }

    #[test]
    fn the_parts_add_up_to_the_process_view() {
        let guest = GuestMemory { total: 900, free: 400, page_cache: 100, anon: 150, kernel: 80, agent: 50 };
        let vm =
            memory(vec![process(Role::Vmm, 1000, Some(700)), process(Role::Command, 40, None)], Some(guest));
        let container = memory(
            vec![
                process(Role::App, 20, None),
                process(Role::App, 30, None),
                process(Role::Monitor, 10, None),
                process(Role::Command, 10, None),
            ],
            None,
        );
        for memory in [&vm, &container] {
            assert_eq!(of(memory).iter().map(|(_, bytes)| bytes).sum::<u64>(), memory.process_bytes);
        }
        assert!(of(&vm).contains(&(PartKind::GuestRest, 700 - 50 - 100 - 100 - 80)));
        assert!(of(&container).contains(&(PartKind::App, 50)));
    }

    #[test]
    fn a_guest_that_counts_more_than_the_host_holds_does_not_make_more_memory() {
        let guest = GuestMemory { total: 900, free: 0, page_cache: 500, anon: 500, kernel: 0, agent: 0 };
        let vm = memory(vec![process(Role::Vmm, 600, Some(600))], Some(guest));
        assert_eq!(of(&vm).iter().map(|(_, bytes)| bytes).sum::<u64>(), 600);
    }

    #[test]
    fn medians_are_by_kind() {
        let of_size = |bytes| memory(vec![process(Role::App, bytes, None)], None);
        let (a, b, c) = (of_size(1), of_size(5), of_size(2));
        assert_eq!(medians(&[&a, &b, &c]), [Part { kind: PartKind::App, bytes: 2.0 }]);
    }
}
