//! The device nodes of a container.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::mounts::{MountKind, MountPlan};
use super::{PlanError, invalid};

/// A device node to make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DevicePlan {
    pub(crate) path: PathBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What sort of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Block,
    Character,
    Fifo,
}

/// The devices that every container has (runtime specification, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The default devices and those of the configuration; `None` when /dev is bound from elsewhere.
pub(crate) fn plan<'a>(
    devices: impl Iterator<Item = &'a LinuxDevice>,
    mounts: &[MountPlan],
) -> Result<Option<Vec<DevicePlan>>, PlanError> {
    let dev_is_bound =
        mounts.iter().any(|m| m.destination == Path::new("/dev") && matches!(m.kind, MountKind::Bind { .. }));
    let mut planned: Vec<_> = DEFAULT_DEVICES.iter().map(default_device).collect();
    for (index, device) in devices.enumerate() {
        let device = plan_one(index, device)?;
        planned.retain(|other| other.path != device.path);
        planned.push(device);
    }
    Ok((!dev_is_bound).then_some(planned))
}

fn default_device(&(path, major, minor): &(&str, u32, u32)) -> DevicePlan {
    DevicePlan { path: path.into(), kind: DeviceKind::Character, major, minor, mode: 0o666, uid: 0, gid: 0 }
}

fn plan_one(index: usize, device: &LinuxDevice) -> Result<DevicePlan, PlanError> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let path = device.path();
    if !path.is_absolute()
        || path.components().any(|c| c == Component::ParentDir)
        || path.file_name().is_none()
    {
        return Err(invalid(field("path"), path.display(), "must be an absolute path without '..'"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(invalid(field("type"), "a", "must be one of b, c, u and p")),
    };
    let number = |name: &str, value: i64| match kind {
        DeviceKind::Fifo => Ok(0),
        _ => u32::try_from(value).map_err(|_| invalid(field(name), value, "is no device number")),
    };
    Ok(DevicePlan {
        path: path.clone(),
        kind,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_json(json: &str) -> Result<Option<Vec<DevicePlan>>, PlanError> {
        let devices: Vec<LinuxDevice> = serde_json::from_str(json).unwrap();
        plan(devices.iter(), &[])
    }

    #[test]
    fn a_configured_device_replaces_the_default_one() {
        let json = r#"[{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384}]"#;
        let planned = plan_json(json).unwrap().unwrap();
        assert_eq!(planned.len(), DEFAULT_DEVICES.len());
        assert_eq!(planned.last().unwrap().mode, 0o600);
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"[{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]"#,
            r#"[{"path": "/dev/../x", "type": "c", "major": 1, "minor": 3}]"#,
            r#"[{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}]"#,
            r#"[{"path": "/dev/x", "type": "b", "major": -1, "minor": 3}]"#,
        ] {
            assert!(plan_json(json).is_err(), "{json}");
        }
    }
}
