//! How the container's processes are scheduled: `process.scheduler`, `process.ioPriority`, `linux.memoryPolicy`,
//! `linux.personality`.

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality,
    LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Scheduler,
};

use super::{PlanError, invalid, number_list};
use crate::sys::SchedAttr;

/// More NUMA nodes than any kernel is built for.
const MAX_NODES: usize = 1024;

/// More CPUs than any kernel is built for.
const MAX_CPUS: usize = 8192;

/// `process.execCPUAffinity`: the CPUs of a further process of the container, one bit each; empty: as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecAffinity {
    /// Of whoever makes it, until it is in the container's cgroup.
    pub(crate) first: Vec<u64>,
    /// Its own, from then on.
    pub(crate) last: Vec<u64>,
}

/// A NUMA policy as set_mempolicy(2) takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    /// Mode and flags.
    pub(crate) mode: u32,
    /// One bit for each node.
    pub(crate) nodes: Vec<u64>,
}

/// Both lists.
pub(super) fn exec_affinity(affinity: &ExecCPUAffinity) -> Result<ExecAffinity, PlanError> {
    let list = |name: &str, list: &Option<String>| {
        let field = format!("process.execCPUAffinity.{name}");
        number_list(&field, list.as_deref().unwrap_or(""), MAX_CPUS)
    };
    Ok(ExecAffinity {
        first: list("initial", affinity.initial())?,
        last: list("final", affinity.cpu_affinity_final())?,
    })
}

/// Policy and priority. The numbers are those of linux/sched.h.
pub(super) fn scheduler(scheduler: &Scheduler) -> Result<SchedAttr, PlanError> {
    use LinuxSchedulerPolicy as Policy;
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
        Policy::SchedIso => {
            return Err(invalid(
                "process.scheduler.policy",
                "SCHED_ISO",
                "is reserved: Linux has no such policy",
            ));
        }
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(invalid("process.scheduler.nice", nice, "must be between -20 and 19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let real_time = matches!(policy, 1 | 2);
    let allowed = if real_time { 1..=99 } else { 0..=0 };
    if !allowed.contains(&priority) {
        let reason = "must be from 1 to 99 for SCHED_FIFO and SCHED_RR, and 0 for the others";
        return Err(invalid("process.scheduler.priority", priority, reason));
    }
    let deadlines = [scheduler.runtime(), scheduler.deadline(), scheduler.period()];
    let [runtime, deadline, period] = deadlines.map(|value| value.unwrap_or(0));
    if policy != 6 && (runtime, deadline, period) != (0, 0, 0) {
        let reason = "runtime, deadline and period are for SCHED_DEADLINE only";
        return Err(invalid("process.scheduler.policy", format!("{:?}", scheduler.policy()), reason));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | scheduler_flag(*flag));
    let priority = priority.cast_unsigned();
    Ok(SchedAttr { policy, flags, nice, priority, runtime, deadline, period, ..SchedAttr::default() })
}

fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    use LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

/// Class and priority packed as linux/ioprio.h has them.
pub(super) fn io_priority(io: &LinuxIOPriority) -> Result<u32, PlanError> {
    let class = match io.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(io.priority()) {
        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
        _ => Err(invalid("process.ioPriority.priority", io.priority(), "must be between 0 and 7")),
    }
}

/// The numbers are those of linux/mempolicy.h.
pub(super) fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, PlanError> {
    use MemoryPolicyModeType as Mode;
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0_u32, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            }
    });
    let nodes = policy.nodes().as_deref().unwrap_or("");
    let nodes = number_list("linux.memoryPolicy.nodes", nodes, MAX_NODES)?;
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

/// The numbers are those of linux/personality.h.
pub(super) fn personality(personality: &LinuxPersonality) -> Result<u32, PlanError> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(invalid("linux.personality.flags", flag, "no flags are defined"));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0x0000,
        LinuxPersonalityDomain::PerLinux32 => 0x0008,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<S: serde::de::DeserializeOwned, T>(
        plan: fn(&S) -> Result<T, PlanError>,
        json: &str,
    ) -> Result<T, PlanError> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_real_time_policy_has_a_priority() {
        let attr =
            read(scheduler, r#"{"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_RESET_ON_FORK"]}"#);
        assert_eq!(attr.unwrap(), SchedAttr { policy: 1, priority: 7, flags: 1, ..SchedAttr::default() });
        let attr = read(scheduler, r#"{"policy": "SCHED_BATCH", "nice": 5}"#).unwrap();
        assert_eq!((attr.policy, attr.nice), (3, 5));
    }

    #[test]
    fn what_the_kernel_has_not_is_refused_by_name() {
        for (json, field) in [
            (r#"{"policy": "SCHED_FIFO"}"#, "process.scheduler.priority"),
            (r#"{"policy": "SCHED_OTHER", "priority": 1}"#, "process.scheduler.priority"),
            (r#"{"policy": "SCHED_OTHER", "nice": 20}"#, "process.scheduler.nice"),
            (r#"{"policy": "SCHED_ISO"}"#, "process.scheduler.policy"),
            (r#"{"policy": "SCHED_RR", "priority": 1, "runtime": 5}"#, "process.scheduler.policy"),
        ] {
            let error = read(scheduler, json).unwrap_err().to_string();
            assert!(error.contains(field), "{json}: {error}");
        }
        assert!(read(io_priority, r#"{"class": "IOPRIO_CLASS_BE", "priority": 8}"#).is_err());
        assert!(read(personality, r#"{"domain": "LINUX", "flags": ["x"]}"#).is_err());
    }

    #[test]
    fn cpus_of_further_processes_are_bits() {
        let affinity = read(exec_affinity, r#"{"initial": "0-2,65", "final": "1"}"#).unwrap();
        assert_eq!(affinity, ExecAffinity { first: vec![0b111, 0b10], last: vec![0b10] });
        assert_eq!(read(exec_affinity, "{}").unwrap(), ExecAffinity::default());
        let error = read(exec_affinity, r#"{"final": "3-1"}"#).unwrap_err().to_string();
        assert!(error.contains("process.execCPUAffinity.final"), "{error}");
        assert!(read(exec_affinity, r#"{"initial": "0-99999999"}"#).is_err());
    }

    #[test]
    fn classes_and_nodes_are_packed() {
        let io = read(io_priority, r#"{"class": "IOPRIO_CLASS_IDLE", "priority": 0}"#).unwrap();
        assert_eq!(io, 3 << 13);
        let policy = r#"{"mode": "MPOL_BIND", "nodes": "0,64-65", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let policy = read(memory_policy, policy).unwrap();
        assert_eq!(policy, MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![1, 3] });
        assert_eq!(read(personality, r#"{"domain": "LINUX32"}"#).unwrap(), 8);
    }
}
