//! `linux.resources.blockIO`: the controller blkio of v1, io of v2.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::{Setting, refused};
use crate::cgroup::CgroupError;

/// Weights as the specification has them.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

pub(super) fn add(block_io: &LinuxBlockIo, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        settings.push(weight_setting("blockIO.weight".to_owned(), "", weight)?);
    }
    if let Some(leaf) = block_io.leaf_weight().filter(|leaf| *leaf != 0) {
        settings.push(Setting::new("blockIO.leafWeight").v1("blkio", "blkio.leaf_weight", leaf));
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        add_weight_device(&format!("blockIO.weightDevice[{index}]"), device, settings)?;
    }
    for (list, v1, key, devices) in [
        ("throttleReadBpsDevice", "read_bps", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "write_bps", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "read_iops", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "write_iops", "wiops", block_io.throttle_write_iops_device()),
    ] {
        for (index, device) in devices.iter().flatten().enumerate() {
            let field = format!("blockIO.{list}[{index}]");
            settings.push(throttle(field, format!("blkio.throttle.{v1}_device"), key, device)?);
        }
    }
    Ok(())
}

fn add_weight_device(
    field: &str,
    device: &LinuxWeightDevice,
    settings: &mut Vec<Setting>,
) -> Result<(), CgroupError> {
    let number = number(field, device.major(), device.minor())?;
    if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
        settings.push(weight_setting(format!("{field}.weight"), &format!("{number} "), weight)?);
    }
    if let Some(leaf) = device.leaf_weight().filter(|leaf| *leaf != 0) {
        let setting = Setting::new(format!("{field}.leafWeight"));
        settings.push(setting.v1("blkio", "blkio.leaf_weight_device", format!("{number} {leaf}")));
    }
    Ok(())
}

/// A weight is kept by the scheduler BFQ, or else by whatever `blkio.weight` and `io.weight` mean to this kernel. v1
/// has files of their own for devices, v2 lines that begin with `device`.
fn weight_setting(field: String, device: &str, weight: u16) -> Result<Setting, CgroupError> {
    if !WEIGHTS.contains(&weight) {
        return Err(refused(field, "must be 10 to 1000"));
    }
    let [bfq, other] = match device {
        "" => ["blkio.bfq.weight", "blkio.weight"],
        _ => ["blkio.bfq.weight_device", "blkio.weight_device"],
    };
    let value = format!("{device}{weight}");
    // `io.weight` goes from 1 to 10000.
    let stretched = 1 + (u32::from(weight) - 10) * 9999 / 990;
    let setting = Setting::new(field).v1("blkio", other, &value).v1("blkio", bfq, &value);
    Ok(setting.v2("io", "io.bfq.weight", value).v2("io", "io.weight", format!("{device}{stretched}")))
}

/// A rate of 0 takes the limit away.
fn throttle(
    field: String,
    v1: String,
    key: &str,
    device: &LinuxThrottleDevice,
) -> Result<Setting, CgroupError> {
    let number = number(&field, device.major(), device.minor())?;
    let rate = device.rate();
    let v2 = if rate == 0 { format!("{number} {key}=max") } else { format!("{number} {key}={rate}") };
    Ok(Setting::new(field).v1("blkio", v1, format!("{number} {rate}")).v2("io", "io.max", v2))
}

/// `major:minor`.
fn number(field: &str, major: i64, minor: i64) -> Result<String, CgroupError> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => Err(refused(field, "major and minor must be a device's numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn weights() {
        let json = r#"{"blockIO": {"weight": 1000, "leafWeight": 20,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 30}]}}"#;
        let (v1, v2) = files(json);
        let expected = [
            "blkio.weight=1000 | blkio.bfq.weight=1000",
            "blkio.leaf_weight=20",
            "blkio.weight_device=8:0 10 | blkio.bfq.weight_device=8:0 10",
            "blkio.leaf_weight_device=8:0 30",
        ];
        assert_eq!(v1, expected);
        assert_eq!(v2, ["io.bfq.weight=1000 | io.weight=10000", "io.bfq.weight=8:0 10 | io.weight=8:0 1"]);
    }

    #[test]
    fn rates() {
        let json = r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1000}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 0}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 8}]}}"#;
        let (v1, v2) = files(json);
        let expected = [
            "blkio.throttle.read_bps_device=8:16 1000",
            "blkio.throttle.write_bps_device=8:16 0",
            "blkio.throttle.read_iops_device=8:16 7",
            "blkio.throttle.write_iops_device=8:16 8",
        ];
        assert_eq!(v1, expected);
        let expected =
            ["rbps=1000", "wbps=max", "riops=7", "wiops=8"].map(|rate| format!("io.max=8:16 {rate}"));
        assert_eq!(v2, expected);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(refused_field(r#"{"blockIO": {"weight": 1001}}"#), "blockIO.weight");
        let json = r#"{"blockIO": {"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]}}"#;
        assert_eq!(refused_field(json), "blockIO.weightDevice[0]");
    }
}
