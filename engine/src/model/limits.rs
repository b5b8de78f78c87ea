//! Limits that are the same for both models, because both sit in the same cgroup tree.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use crate::spec::RunSpec;

/// Microseconds in which an instance may use its quota.
const PERIOD_US: u64 = 100_000;

/// The CPU time an instance may use, if it is limited.
pub(super) fn cpu_quota(spec: &RunSpec) -> Option<LinuxCpu> {
    let quota = u64::from(spec.cpus_milli?) * PERIOD_US / 1000;
    let mut cpu = LinuxCpu::default();
    cpu.set_period(Some(PERIOD_US)).set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
    Some(cpu)
}

/// What holds for the process of a virtual machine: its CPU time. Its memory is its RAM.
pub(super) fn machine(spec: &RunSpec) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_cpu(cpu_quota(spec));
    resources
}
