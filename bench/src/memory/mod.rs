//! What an instance holds of the host's memory, seen three ways: by its processes, by its cgroup, and for a VM by the
//! guest. [`smaps`], [`tree`] and [`cgroup`] read the kernel's files; [`reconcile`] holds the views against each other.

pub mod cgroup;
pub mod parts;
pub mod reconcile;
pub mod smaps;
pub mod tree;

use serde::{Deserialize, Serialize};

pub use cgroup::CgroupMemory;
pub use parts::Part;
pub use reconcile::Reconciliation;

/// The three views of one instance, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Every process that exists because of the instance.
    pub processes: Vec<ProcessMemory>,
    /// The process view: the sum of their proportional set sizes.
    pub process_bytes: u64,
    /// The part of it that is a guest's RAM; absent for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_ram_bytes: Option<u64>,
    /// The cgroup view; absent when the instance has no memory cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupMemory>,
    /// The guest's own view; absent for containers, or when the guest did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestMemory>,
    /// How the cgroup view and the process view fit together; absent without a cgroup view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciliation: Option<Reconciliation>,
    /// CPU time of the processes so far, in nanoseconds; that of processes already gone is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
}

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Its process id on the host.
    pub pid: u32,
    /// Its name, from `/proc/PID/comm`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its proportional set size, in bytes.
    pub pss_bytes: u64,
    /// The part of it that is a guest's RAM, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_ram_bytes: Option<u64>,
    /// Whether it is in the instance's cgroup; absent when the instance has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cgroup: Option<bool>,
}

/// What a process of an instance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The command in the foreground.
    Command,
    /// The monitor of a container, or the runtime of a peer.
    Monitor,
    /// The monitor of a VM, which is its VMM.
    Vmm,
    /// The app, or a helper of it.
    App,
}

/// The guest's own view, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemory {
    /// All the RAM the guest's kernel manages.
    pub total: u64,
    /// What it holds free.
    pub free: u64,
    /// Files kept in memory.
    pub page_cache: u64,
    /// Anonymous memory of all processes.
    pub anon: u64,
    /// The kernel's own: slab, stacks, page tables.
    pub kernel: u64,
    /// Resident bytes of the agent.
    pub agent: u64,
}
