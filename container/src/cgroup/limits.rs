//! Which limit goes into which file: a table from the OCI fields to v1 and v2, as values.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::CgroupError;

/// One limit, in the words of both versions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its path below `linux.resources`.
    pub(super) field: &'static str,
    pub(super) controller: &'static str,
    /// File and value in the v1 tree of that controller.
    pub(super) v1: Option<(&'static str, String)>,
    /// File and value in the v2 tree.
    pub(super) v2: Option<(&'static str, String)>,
}

/// All limits that `resources` asks for, in the order they must be set. Device rules are apart.
pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    refuse_unsupported(resources)?;
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        add_memory(memory, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        add_cpu(cpu, &mut settings);
    }
    if let Some(pids) = resources.pids() {
        let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        settings.push(both("pids.limit", "pids", ("pids.max", value.clone()), ("pids.max", value)));
    }
    Ok(settings)
}

fn refuse_unsupported(resources: &LinuxResources) -> Result<(), CgroupError> {
    let memory = resources.memory().unwrap_or_default();
    let reason = "not supported by this runtime; remove it";
    for (field, present) in [
        ("blockIO", resources.block_io().is_some()),
        ("hugepageLimits", resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("network", resources.network().is_some()),
        ("rdma", resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("unified", resources.unified().as_ref().is_some_and(|files| !files.is_empty())),
        ("memory.kernel", memory.kernel().is_some()),
        ("memory.kernelTCP", memory.kernel_tcp().is_some()),
        ("memory.useHierarchy", memory.use_hierarchy() == Some(false)),
        ("cpu.realtimeRuntime", resources.cpu().as_ref().is_some_and(|cpu| cpu.realtime_runtime().is_some())),
        ("cpu.realtimePeriod", resources.cpu().as_ref().is_some_and(|cpu| cpu.realtime_period().is_some())),
    ] {
        if present {
            return Err(CgroupError::Unsupported { field: field.to_owned(), reason });
        }
    }
    Ok(())
}

fn both(
    field: &'static str,
    controller: &'static str,
    v1: (&'static str, String),
    v2: (&'static str, String),
) -> Setting {
    Setting { field, controller, v1: Some(v1), v2: Some(v2) }
}

/// Bytes, or -1 for no limit.
fn bytes_v2(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn add_memory(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    let mut add = |field, v1, v2| settings.push(Setting { field, controller: "memory", v1, v2 });
    if let Some(limit) = memory.limit() {
        let v1 = ("memory.limit_in_bytes", limit.to_string());
        add("memory.limit", Some(v1), Some(("memory.max", bytes_v2(limit))));
    }
    if let Some(swap) = memory.swap() {
        // OCI and v1 count memory and swap together, v2 counts swap alone.
        let swap_alone = match (swap, memory.limit()) {
            (..0, _) => -1,
            (_, Some(limit)) if limit >= 0 && swap >= limit => swap - limit,
            (_, Some(limit)) if limit >= 0 => {
                let reason = "counts memory and swap together, so it cannot be below memory.limit";
                return Err(CgroupError::Unsupported { field: "memory.swap".to_owned(), reason });
            }
            _ => {
                let reason = "counts memory and swap together, so it needs memory.limit as well";
                return Err(CgroupError::Unsupported { field: "memory.swap".to_owned(), reason });
            }
        };
        let v1 = ("memory.memsw.limit_in_bytes", swap.to_string());
        add("memory.swap", Some(v1), Some(("memory.swap.max", bytes_v2(swap_alone))));
    }
    if let Some(reservation) = memory.reservation() {
        let v1 = ("memory.soft_limit_in_bytes", reservation.to_string());
        let low = if reservation < 0 { "0".to_owned() } else { reservation.to_string() };
        add("memory.reservation", Some(v1), Some(("memory.low", low)));
    }
    if let Some(swappiness) = memory.swappiness() {
        add("memory.swappiness", Some(("memory.swappiness", swappiness.to_string())), None);
    }
    if memory.disable_oom_killer() == Some(true) {
        add("memory.disableOOMKiller", Some(("memory.oom_control", "1".to_owned())), None);
    }
    Ok(())
}

fn add_cpu(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let v2 = ("cpu.weight", weight(shares).to_string());
        settings.push(both("cpu.shares", "cpu", ("cpu.shares", shares.to_string()), v2));
    }
    // v2 has quota and period in one file; whichever is written last there says both.
    let quota = cpu
        .quota()
        .map_or("max".to_owned(), |quota| if quota <= 0 { "max".into() } else { quota.to_string() });
    let period = cpu.period().filter(|period| *period != 0);
    let max = || ("cpu.max", format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US)));
    if let Some(period) = period {
        settings.push(both("cpu.period", "cpu", ("cpu.cfs_period_us", period.to_string()), max()));
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        settings.push(both("cpu.quota", "cpu", ("cpu.cfs_quota_us", quota.to_string()), max()));
    }
    if let Some(burst) = cpu.burst() {
        let v2 = ("cpu.max.burst", burst.to_string());
        settings.push(both("cpu.burst", "cpu", ("cpu.cfs_burst_us", burst.to_string()), v2));
    }
    if let Some(idle) = cpu.idle() {
        settings.push(both(
            "cpu.idle",
            "cpu",
            ("cpu.idle", idle.to_string()),
            ("cpu.idle", idle.to_string()),
        ));
    }
    for (field, file, list) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.push(both(field, "cpuset", (file, list.clone()), (file, list.clone())));
        }
    }
}

/// The kernel's own period, in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000): the straight line that runc and crun
/// use as well.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(json: &str) -> (Vec<String>, Vec<String>) {
        let settings = settings(&serde_json::from_str(json).unwrap()).unwrap();
        let show =
            |file: &Option<(&str, String)>| file.as_ref().map(|(name, value)| format!("{name}={value}"));
        let v1 = settings.iter().filter_map(|s| show(&s.v1)).collect();
        (v1, settings.iter().filter_map(|s| show(&s.v2)).collect())
    }

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
        assert_eq!(
            files(r#"{"memory": {"limit": -1, "swap": -1}}"#).1,
            ["memory.max=max", "memory.swap.max=max"]
        );
    }

    #[test]
    fn cpu() {
        let (v1, v2) = files(r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "cpus": "0-1"}}"#);
        let expected =
            ["cpu.shares=1024", "cpu.cfs_period_us=200000", "cpu.cfs_quota_us=50000", "cpuset.cpus=0-1"];
        assert_eq!(v1, expected);
        assert_eq!(v2, ["cpu.weight=39", "cpu.max=50000 200000", "cpu.max=50000 200000", "cpuset.cpus=0-1"]);
        assert_eq!(files(r#"{"cpu": {"quota": -1}}"#).1, ["cpu.max=max 100000"]);
        assert_eq!(files(r#"{"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}"#).0, [""; 0]);
    }

    #[test]
    fn pids() {
        assert_eq!(files(r#"{"pids": {"limit": 7}}"#).0, ["pids.max=7"]);
        assert_eq!(files(r#"{"pids": {"limit": -1}}"#).1, ["pids.max=max"]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (json, expected) in [
            (r#"{"blockIO": {"weight": 10}}"#, "blockIO"),
            (r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}"#, "hugepageLimits"),
            (r#"{"network": {"classID": 1}}"#, "network"),
            (r#"{"rdma": {"mlx5": {}}}"#, "rdma"),
            (r#"{"unified": {"memory.high": "1"}}"#, "unified"),
            (r#"{"memory": {"kernel": 1}}"#, "memory.kernel"),
            (r#"{"memory": {"limit": 10, "swap": 5}}"#, "memory.swap"),
            (r#"{"memory": {"swap": 5}}"#, "memory.swap"),
            (r#"{"cpu": {"realtimeRuntime": 1}}"#, "cpu.realtimeRuntime"),
        ] {
            match settings(&serde_json::from_str(json).unwrap()) {
                Err(CgroupError::Unsupported { field, .. }) => assert_eq!(field, expected, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
