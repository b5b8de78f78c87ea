//! How a host enforces device rules: by v1's list, by a program on v2, or not at all.

use std::path::Path;

use oci_spec::runtime::LinuxDeviceCgroup;
use rustix::process::geteuid;

use super::devices::{self, DeviceRule};
use super::hierarchy::Hierarchy;
use super::{Cgroup, CgroupError, device_list, device_program, write};

/// What is done about devices.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeviceRules {
    /// There are no rules.
    Open,
    /// Lines for the v1 controller.
    List(Vec<device_list::Write>),
    /// A program for the v2 tree.
    Program(Vec<DeviceRule>),
}

impl DeviceRules {
    /// The rules of a configuration on this host. With `anew`, they take the place of others.
    pub(super) fn choose(
        hierarchy: &Hierarchy,
        configured: &[LinuxDeviceCgroup],
        anew: bool,
    ) -> Result<Self, CgroupError> {
        let rules = devices::rules(configured)?;
        if rules.is_empty() {
            return Ok(Self::Open);
        }
        let list = hierarchy.has_v1("devices").then(|| device_list::writes(&rules, anew));
        match (list, &hierarchy.v2) {
            (Some(Some(list)), _) => Ok(Self::List(list)),
            // What v1's list cannot say, a program can, wherever there is a v2 tree to attach it to.
            (_, Some(_)) => Ok(Self::Program(rules)),
            (Some(None), None) => Err(CgroupError::Unsupported {
                field: "devices".to_owned(),
                reason: "a rule denies a part of what an earlier one allows, or the other way round, which cgroup v1 \
                         cannot enforce; list what is meant without overlaps",
            }),
            (None, None) => Err(CgroupError::MissingController {
                field: "devices".to_owned(),
                controller: "devices".to_owned(),
            }),
        }
    }

    /// Whether they need the v1 controller's tree.
    pub(super) fn need_v1(&self) -> bool {
        matches!(self, Self::List(_))
    }

    /// Whether they need the v2 tree.
    pub(super) fn need_v2(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    /// Puts them in force, all at once: nothing is forbidden or allowed in between that the rules do not say, apart from
    /// v1's list, whose group must be frozen for that.
    pub(super) fn apply(&self, group: &Cgroup) -> Result<(), CgroupError> {
        match (self, group.v1_dir("devices"), group.v2_dir()) {
            (Self::List(lines), Some(dir), _) => {
                lines.iter().try_for_each(|(file, line)| write(&dir.join(file), line))
            }
            (Self::Program(rules), _, Some(dir)) => device_program::attach(dir, rules),
            _ => Ok(()),
        }
    }
}

/// Whether device rules are what keeps a container from devices. A user namespace other than the first one does that
/// by itself: a node that is made there opens nothing (user_namespaces(7)).
pub(super) fn matter() -> bool {
    geteuid().is_root() && first_user_namespace(Path::new("/proc/self/uid_map"))
}

/// Only the first user namespace maps every id to itself.
fn first_user_namespace(uid_map: &Path) -> bool {
    let map = std::fs::read_to_string(uid_map).unwrap_or_default();
    map.is_empty() || map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::{V1Tree, V2Tree};
    use super::*;

    const HOLE: &str = r#"[{"allow": true, "type": "b", "major": 8}, {"allow": false},
        {"allow": true, "type": "b", "major": 8}, {"allow": false, "type": "b", "major": 8, "minor": 1}]"#;

    fn choose(v1: bool, v2: bool, json: &str) -> Result<DeviceRules, CgroupError> {
        let tree = V1Tree { controllers: vec!["devices".to_owned()], dir: "/v1".into() };
        let hierarchy = Hierarchy {
            v1: v1.then_some(tree).into_iter().collect(),
            v2: v2.then(|| V2Tree { controllers: vec![], dir: "/v2".into() }),
        };
        DeviceRules::choose(&hierarchy, &serde_json::from_str::<Vec<_>>(json).unwrap(), false)
    }

    #[test]
    fn a_list_where_it_can_say_it_and_else_a_program() {
        let plain = r#"[{"allow": false}]"#;
        assert!(choose(true, true, plain).unwrap().need_v1());
        assert!(choose(false, true, plain).unwrap().need_v2());
        assert!(choose(true, true, HOLE).unwrap().need_v2());
        assert_eq!(choose(false, false, "[]").unwrap(), DeviceRules::Open);
        assert!(matches!(choose(true, false, HOLE), Err(CgroupError::Unsupported { .. })));
        assert!(matches!(choose(false, false, plain), Err(CgroupError::MissingController { .. })));
    }

    #[test]
    fn a_user_namespace_has_a_map_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (map, first) in
            [("         0          0 4294967295\n", true), ("0 100000 65536\n", false), ("0 0 1\n", false)]
        {
            std::fs::write(file.path(), map).unwrap();
            assert_eq!(first_user_namespace(file.path()), first, "{map}");
        }
    }
}
