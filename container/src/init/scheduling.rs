//! How the program is scheduled, as far as the host allows.

use rustix::io::Errno;

use crate::plan::{MemoryPolicy, ProcessPlan};
use crate::step::{At, StepError};
use crate::sys;

const STEP: &str = "scheduling";

/// What holds for all of the container: where memory comes from, and the execution domain.
pub(super) fn set_for_container(
    memory_policy: Option<&MemoryPolicy>,
    personality: Option<u32>,
) -> Result<(), StepError> {
    if let Some(policy) = memory_policy {
        sys::set_memory_policy(policy.mode, &policy.nodes).at(STEP, "linux.memoryPolicy")?;
    }
    match personality {
        Some(domain) => sys::set_personality(domain).at(STEP, "linux.personality"),
        None => Ok(()),
    }
}

/// The CPUs of a further process, once it is in the container's cgroup.
pub(super) fn set_last_affinity(process: &ProcessPlan) -> Result<(), StepError> {
    match process.exec_affinity.last.as_slice() {
        [] => Ok(()),
        cpus => sys::set_affinity(cpus).at(STEP, "process.execCPUAffinity.final"),
    }
}

/// What holds for this process. The warning says what this host does not permit.
pub(super) fn set_for_process(process: &ProcessPlan) -> Result<Option<String>, StepError> {
    let scheduler = process.scheduler.map(sys::set_scheduler);
    let io_priority = process.io_priority.map(sys::set_io_priority);
    let mut refused = Vec::new();
    for (field, result) in [("process.scheduler", scheduler), ("process.ioPriority", io_priority)] {
        match result {
            Some(Err(Errno::PERM)) => refused.push(field),
            Some(result) => result.at(STEP, field)?,
            None => {}
        }
    }
    Ok((!refused.is_empty())
        .then(|| format!("left as it is, for this host does not permit it: {}", refused.join(", "))))
}
