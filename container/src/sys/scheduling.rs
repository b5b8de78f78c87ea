//! How this process is scheduled: `sched_setattr(2)`, `sched_setaffinity(2)`, `ioprio_set(2)`, `set_mempolicy(2)`, `personality(2)`.

use rustix::io::Errno;

use super::check;

/// `struct sched_attr` of linux/sched/types.h, its first version and the clamps of its second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`, like the two that follow.
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

/// Sets policy and priority of this process.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, EINVAL for a policy or a priority that the kernel does not have, EBUSY when a deadline
/// cannot be promised.
pub(crate) fn set_scheduler(attr: SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: u32::try_from(size_of::<SchedAttr>()).map_err(|_| Errno::INVAL)?, ..attr };
    // SAFETY: `attr` is a valid sched_attr of the size that it names, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(|_| ())
}

/// Sets the CPUs that this process may run on, one bit each.
///
/// # Errors
/// EINVAL when none of them is there, or in its cpuset.
pub(crate) fn set_affinity(cpus: &[u64]) -> Result<(), Errno> {
    let bytes = size_of_val(cpus);
    // SAFETY: `cpus` is `bytes` long and outlives the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, cpus.as_ptr()) }).map(|_| ())
}

/// Sets class and priority of this process's disk accesses, as linux/ioprio.h packs them.
///
/// # Errors
/// EPERM without the right for the class, EINVAL for one that the kernel does not have.
pub(crate) fn set_io_priority(value: u32) -> Result<(), Errno> {
    // IOPRIO_WHO_PROCESS, this one.
    // SAFETY: takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) }).map(|_| ())
}

/// Sets where memory of this process comes from: a mode with flags of linux/mempolicy.h, and a set of nodes, one bit each.
///
/// # Errors
/// EINVAL for a mode that the kernel does not have or nodes that are not there, ENOSYS without NUMA.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: `mask` is null, or points at `bits - 1` bits that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(|_| ())
}

/// Sets the execution domain.
///
/// # Errors
/// EINVAL for one that the kernel does not have.
pub(crate) fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: takes a plain number.
    check(unsafe { libc::personality(domain.into()) }.into()).map(|_| ())
}
