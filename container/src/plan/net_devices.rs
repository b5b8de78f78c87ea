//! `linux.netDevices`: network devices of the host that become the container's.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{LinuxNamespaceType, LinuxNetDevice};

use super::namespaces::Namespaces;
use super::{PlanError, invalid};

/// A device to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevicePlan {
    /// Its name on the host.
    pub(crate) name: String,
    /// Its name in the container.
    pub(crate) new_name: String,
    /// Where config.json says so.
    pub(crate) field: String,
}

/// Checks names, and that there is a network namespace to move them to.
pub(super) fn plan(
    devices: &HashMap<String, LinuxNetDevice>,
    namespaces: &Namespaces,
) -> Result<Vec<NetDevicePlan>, PlanError> {
    let mut planned: BTreeMap<String, NetDevicePlan> = BTreeMap::new();
    for (name, device) in devices {
        let field = format!("linux.netDevices.{name}");
        let new_name = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| name.clone());
        if !namespaces.has_own(LinuxNamespaceType::Network) {
            let reason = "needs a network namespace; add {\"type\": \"network\"} to linux.namespaces";
            return Err(invalid(field, name, reason));
        }
        if let Some(wrong) = [name, &new_name].into_iter().find(|name| !is_device_name(name)) {
            return Err(invalid(field, wrong, "must be 1 to 15 bytes without slash, colon and white space"));
        }
        // The kernel would find out when the device is there already, and it would go with the namespace.
        if new_name == "lo" {
            return Err(invalid(
                field,
                new_name,
                "is the loopback's name, which every network namespace has",
            ));
        }
        let device = NetDevicePlan { name: name.clone(), new_name: new_name.clone(), field: field.clone() };
        if planned.insert(new_name.clone(), device).is_some() {
            return Err(invalid(field, new_name, "two devices cannot have one name"));
        }
    }
    Ok(planned.into_values().collect())
}

/// As the kernel has it (`dev_valid_name`); a percent sign would be a pattern.
fn is_device_name(name: &str) -> bool {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    (1..=15).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, clone_flags: i32) -> Result<Vec<NetDevicePlan>, PlanError> {
        let namespaces =
            Namespaces { clone_flags: clone_flags.unsigned_abs().into(), ..Namespaces::default() };
        plan(&serde_json::from_str(json).unwrap(), &namespaces)
    }

    #[test]
    fn a_device_keeps_its_name_unless_given_another() {
        let planned =
            read(r#"{"b": {"name": "a"}, "c": {}, "d": {"name": ""}}"#, libc::CLONE_NEWNET).unwrap();
        let names: Vec<_> = planned.iter().map(|device| (&*device.name, &*device.new_name)).collect();
        assert_eq!(names, [("b", "a"), ("c", "c"), ("d", "d")]);
    }

    #[test]
    fn what_cannot_be_a_device_is_refused_by_name() {
        for (json, flags) in [
            (r#"{"eth0": {}}"#, 0),
            (r#"{"": {}}"#, libc::CLONE_NEWNET),
            (r#"{"eth0": {"name": "a/b"}}"#, libc::CLONE_NEWNET),
            (r#"{"eth0": {"name": "eth%d"}}"#, libc::CLONE_NEWNET),
            (r#"{"eth0": {"name": "sixteen-bytes-it"}}"#, libc::CLONE_NEWNET),
            (r#"{"..": {}}"#, libc::CLONE_NEWNET),
            (r#"{"eth0": {"name": "lo"}}"#, libc::CLONE_NEWNET),
            (r#"{"a b": {}}"#, libc::CLONE_NEWNET),
            (r#"{"a": {"name": "x"}, "b": {"name": "x"}}"#, libc::CLONE_NEWNET),
        ] {
            let error = read(json, flags).unwrap_err().to_string();
            assert!(error.contains("linux.netDevices."), "{json}: {error}");
        }
    }
}
