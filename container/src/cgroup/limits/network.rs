//! `linux.resources.network`: v1's net_cls and net_prio. v2 has neither; what they did is done with eBPF or nftables
//! there.

use oci_spec::runtime::LinuxNetwork;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

/// The longest name of a network interface, in bytes (linux/if.h, IFNAMSIZ without its NUL).
const MAX_INTERFACE_NAME: usize = 15;

pub(super) fn add(network: &LinuxNetwork, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        settings.push(Setting::new("network.classID").v1("net_cls", "net_cls.classid", class));
    }
    for (index, entry) in network.priorities().iter().flatten().enumerate() {
        let name = entry.name();
        let field = format!("network.priorities[{index}]");
        let plain = !name.is_empty() && name.len() <= MAX_INTERFACE_NAME;
        if !plain || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(refused(format!("{field}.name"), "must be the name of a network interface"));
        }
        let value = format!("{name} {}", entry.priority());
        settings.push(Setting::new(field).v1("net_prio", "net_prio.ifpriomap", value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn class_and_priorities_are_v1s() {
        let json = r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]}}"#;
        let (v1, v2) = files(json);
        assert_eq!(v1, ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 500"]);
        assert!(v2.is_empty());
    }

    #[test]
    fn a_name_is_one_word() {
        for name in ["", "eth0 1\\n", "a/b", "sixteen-letters-"] {
            let json = format!(r#"{{"network": {{"priorities": [{{"name": "{name}", "priority": 1}}]}}}}"#);
            assert_eq!(refused_field(&json), "network.priorities[0].name", "{name}");
        }
    }
}
