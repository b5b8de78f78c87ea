//! `linux.resources.memory`.

use oci_spec::runtime::LinuxMemory;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

const CONTROLLER: &str = "memory";

/// The most that `memory.swappiness` takes.
const MAX_SWAPPINESS: u64 = 100;

pub(super) fn add(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    // As elsewhere, 0 says nothing and -1 takes a limit away.
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = given(memory.limit());
    for (field, value) in [
        ("memory.limit", memory.limit()),
        ("memory.swap", memory.swap()),
        ("memory.reservation", memory.reservation()),
        ("memory.kernelTCP", memory.kernel_tcp()),
    ] {
        if value.is_some_and(|value| value < -1) {
            return Err(refused(field, "must be a number of bytes, or -1 for no limit"));
        }
    }
    if let Some(limit) = limit {
        let setting = Setting::new("memory.limit").v1(CONTROLLER, "memory.limit_in_bytes", limit);
        settings.push(setting.v2(CONTROLLER, "memory.max", or_max(limit)));
    }
    // Whoever takes the limit on memory away means the swap that is counted with it as well.
    let swap = given(memory.swap()).or(limit.filter(|limit| *limit == -1));
    if let Some(swap) = swap {
        let alone = or_max(swap_alone(swap, limit)?);
        // Without swap accounting there is nothing to be had, and nothing to forbid.
        let optional = swap == -1 || alone == "0";
        let setting = Setting::new("memory.swap").v1(CONTROLLER, "memory.memsw.limit_in_bytes", swap);
        settings.push(setting.v2(CONTROLLER, "memory.swap.max", alone).optional(optional));
    }
    if let Some(reservation) = given(memory.reservation()) {
        let low = if reservation < 0 { 0 } else { reservation };
        let setting = Setting::new("memory.reservation");
        let setting = setting.v1(CONTROLLER, "memory.soft_limit_in_bytes", reservation);
        settings.push(setting.v2(CONTROLLER, "memory.low", low));
    }
    if let Some(tcp) = given(memory.kernel_tcp()) {
        let setting = Setting::new("memory.kernelTCP");
        settings.push(setting.v1(CONTROLLER, "memory.kmem.tcp.limit_in_bytes", tcp));
    }
    if given(memory.kernel()).is_some() {
        // Linux 5.16 took it away: the kernel's own memory counts for memory.limit.
        tracing::warn!(
            "linux.resources.memory.kernel is ignored: Linux no longer limits kernel memory apart"
        );
    }
    add_behaviour(memory, settings)
}

/// What happens when there is not enough.
fn add_behaviour(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > MAX_SWAPPINESS {
            return Err(refused("memory.swappiness", "must be 0 to 100"));
        }
        let setting = Setting::new("memory.swappiness");
        settings.push(setting.v1(CONTROLLER, "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        settings.push(Setting::new("memory.disableOOMKiller").v1(CONTROLLER, "memory.oom_control", 1));
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(refused(
            "memory.useHierarchy",
            "Linux counts the memory of the groups below with their parent's, always; remove it",
        ));
    }
    Ok(())
}

/// OCI and v1 count memory and swap together, v2 counts swap alone.
fn swap_alone(swap: i64, limit: Option<i64>) -> Result<i64, CgroupError> {
    match limit {
        _ if swap == -1 => Ok(-1),
        Some(limit) if limit >= 0 && swap >= limit => Ok(swap - limit),
        Some(limit) if limit >= 0 => {
            Err(refused("memory.swap", "counts memory and swap together, so it cannot be below memory.limit"))
        }
        _ => Err(refused("memory.swap", "counts memory and swap together, so it needs memory.limit as well")),
    }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn memory_and_swap() {
        let (v1, v2) = files(r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500}}"#);
        let expected = [
            "memory.limit_in_bytes=1000",
            "memory.memsw.limit_in_bytes=3000",
            "memory.soft_limit_in_bytes=500",
        ];
        assert_eq!(v1, expected);
        assert_eq!(v2, ["memory.max=1000", "memory.swap.max=2000", "memory.low=500"]);
    }

    #[test]
    fn no_limit_on_memory_is_none_on_swap_either() {
        for json in [r#"{"memory": {"limit": -1, "swap": -1}}"#, r#"{"memory": {"limit": -1}}"#] {
            assert_eq!(files(json).1, ["memory.max=max", "memory.swap.max=max"]);
        }
        assert!(files(r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0}}"#).0.is_empty());
    }

    #[test]
    fn what_only_v1_has() {
        let json = r#"{"memory": {"swappiness": 60, "disableOOMKiller": true, "kernelTCP": 5, "kernel": 7,
            "useHierarchy": true}}"#;
        let (v1, v2) = files(json);
        assert_eq!(v1, ["memory.kmem.tcp.limit_in_bytes=5", "memory.swappiness=60", "memory.oom_control=1"]);
        assert!(v2.is_empty());
    }

    #[test]
    fn contradictions_are_named() {
        for (json, field) in [
            (r#"{"memory": {"limit": 10, "swap": 5}}"#, "memory.swap"),
            (r#"{"memory": {"swap": 5}}"#, "memory.swap"),
            (r#"{"memory": {"limit": -2}}"#, "memory.limit"),
            (r#"{"memory": {"swappiness": 101}}"#, "memory.swappiness"),
            (r#"{"memory": {"useHierarchy": false}}"#, "memory.useHierarchy"),
        ] {
            assert_eq!(refused_field(json), field, "{json}");
        }
    }
}
