//! `linux.resources.cpu`, which is the business of the controllers cpu and cpuset.

use oci_spec::runtime::LinuxCpu;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

/// The kernel's own period, in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// The least and the most shares that v1 knows.
const SHARES: [u64; 2] = [2, 262_144];

pub(super) fn add(cpu: &LinuxCpu, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let setting = Setting::new("cpu.shares").v1("cpu", "cpu.shares", shares);
        settings.push(setting.v2("cpu", "cpu.weight", weight(shares)));
    }
    if let Some(idle) = cpu.idle() {
        if !matches!(idle, 0 | 1) {
            return Err(refused("cpu.idle", "must be 0 or 1"));
        }
        settings.push(Setting::new("cpu.idle").both("cpu", "cpu.idle", idle));
    }
    add_bandwidth(cpu, settings);
    // v1's alone: v2 has no such limit.
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        settings.push(Setting::new("cpu.realtimePeriod").v1("cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        settings.push(Setting::new("cpu.realtimeRuntime").v1("cpu", "cpu.rt_runtime_us", runtime));
    }
    for (field, file, list) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        if !list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b':' | b'/')) {
            return Err(refused(field, "must be a list of numbers and ranges, like 0-3,7"));
        }
        settings.push(Setting::new(field).both("cpuset", file, list));
    }
    Ok(())
}

/// How much of a period may be used. v2 has both in one file; whichever is written there says both.
fn add_bandwidth(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let max = || {
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US))
    };
    if let Some(period) = period {
        let setting = Setting::new("cpu.period").v1("cpu", "cpu.cfs_period_us", period);
        settings.push(setting.v2("cpu", "cpu.max", max()));
    }
    if let Some(quota) = quota {
        let setting = Setting::new("cpu.quota").v1("cpu", "cpu.cfs_quota_us", quota.max(-1));
        settings.push(setting.v2("cpu", "cpu.max", max()));
    }
    if let Some(burst) = cpu.burst() {
        let setting = Setting::new("cpu.burst").v1("cpu", "cpu.cfs_burst_us", burst);
        settings.push(setting.v2("cpu", "cpu.max.burst", burst));
    }
}

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default): the curve through these
/// three points that newer runc and crun use, and not the straight line of older ones, which has the default at 39.
fn weight(shares: u64) -> u64 {
    let [least, most] = SHARES;
    if shares <= least {
        return 1;
    }
    if shares >= most {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of 18 bits fit")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};
    use super::weight;

    #[test]
    fn bandwidth_and_sets() {
        let (v1, v2) = files(r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "cpus": "0-1"}}"#);
        let expected =
            ["cpu.shares=1024", "cpu.cfs_period_us=200000", "cpu.cfs_quota_us=50000", "cpuset.cpus=0-1"];
        assert_eq!(v1, expected);
        assert_eq!(v2, ["cpu.weight=100", "cpu.max=50000 200000", "cpu.max=50000 200000", "cpuset.cpus=0-1"]);
        assert_eq!(files(r#"{"cpu": {"quota": -1}}"#).1, ["cpu.max=max 100000"]);
        assert_eq!(files(r#"{"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}"#).0, [""; 0]);
    }

    #[test]
    fn burst_idle_and_real_time() {
        let (v1, v2) =
            files(r#"{"cpu": {"burst": 9, "idle": 1, "realtimeRuntime": 5, "realtimePeriod": 10}}"#);
        assert_eq!(v1, ["cpu.idle=1", "cpu.cfs_burst_us=9", "cpu.rt_period_us=10", "cpu.rt_runtime_us=5"]);
        assert_eq!(v2, ["cpu.idle=1", "cpu.max.burst=9"]);
    }

    #[test]
    fn shares_become_weights_from_the_least_over_the_default_to_the_most() {
        for (shares, expected) in [
            (1, 1),
            (2, 1),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (1 << 40, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(refused_field(r#"{"cpu": {"idle": 2}}"#), "cpu.idle");
        assert_eq!(refused_field(r#"{"cpu": {"cpus": "0\n1"}}"#), "cpu.cpus");
        assert_eq!(refused_field(r#"{"cpu": {"mems": "all"}}"#), "cpu.mems");
    }
}
