//! Which devices a group's processes may use: the configuration's rules and those that every container needs.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::CgroupError;

/// One rule. Of several that match, the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceRule {
    pub(super) allow: bool,
    pub(super) kind: RuleKind,
    /// `None` is every number.
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

/// What sort of device a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleKind {
    All,
    Block,
    Character,
}

/// What may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) mknod: bool,
}

const ALL: Access = Access { read: true, write: true, mknod: true };
const MKNOD: Access = Access { read: false, write: false, mknod: true };

/// Making nodes of any number (using them is another matter), the default devices, terminals.
const ALWAYS_ALLOWED: [(RuleKind, Option<u32>, Option<u32>, Access); 10] = [
    (RuleKind::Character, None, None, MKNOD),
    (RuleKind::Block, None, None, MKNOD),
    (RuleKind::Character, Some(1), Some(3), ALL), // null
    (RuleKind::Character, Some(1), Some(5), ALL), // zero
    (RuleKind::Character, Some(1), Some(7), ALL), // full
    (RuleKind::Character, Some(1), Some(8), ALL), // random
    (RuleKind::Character, Some(1), Some(9), ALL), // urandom
    (RuleKind::Character, Some(5), Some(0), ALL), // tty
    (RuleKind::Character, Some(5), Some(2), ALL), // ptmx
    (RuleKind::Character, Some(136), None, ALL),  // pts/*
];

/// The rules to enforce; empty when the configuration has none, which leaves all devices open.
///
/// What every container needs goes in right after a leading "deny all", so that later rules can still take it away.
pub(super) fn rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>, CgroupError> {
    let mut rules = Vec::new();
    let mut needs_added = false;
    for (index, device) in configured.iter().enumerate() {
        let rule = rule(index, device)?;
        if rule.kind == RuleKind::All && rule.access != ALL {
            // All that is said of all kinds at once is "everything"; less is said of each.
            rules.extend([RuleKind::Block, RuleKind::Character].map(|kind| DeviceRule { kind, ..rule }));
            continue;
        }
        let denies_all = !rule.allow && rule.kind == RuleKind::All;
        rules.push(rule);
        if denies_all && !needs_added {
            needs_added = true;
            rules.extend(ALWAYS_ALLOWED.map(|(kind, major, minor, access)| DeviceRule {
                allow: true,
                kind,
                major,
                minor,
                access,
            }));
        }
    }
    Ok(rules)
}

fn rule(index: usize, device: &LinuxDeviceCgroup) -> Result<DeviceRule, CgroupError> {
    let refused =
        |name: &str, reason| CgroupError::Unsupported { field: format!("devices[{index}].{name}"), reason };
    let kind = match device.typ() {
        None | Some(LinuxDeviceType::A) => RuleKind::All,
        Some(LinuxDeviceType::B) => RuleKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => RuleKind::Character,
        Some(LinuxDeviceType::P) => return Err(refused("type", "a FIFO is no device; use a, b or c")),
    };
    let number = |name, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| refused(name, "is no device number")),
    };
    let letters = device.access().as_deref().filter(|letters| !letters.is_empty()).unwrap_or("rwm");
    if letters.chars().any(|c| !matches!(c, 'r' | 'w' | 'm')) {
        return Err(refused("access", "must be made of r, w and m"));
    }
    let (major, minor) = (number("major", device.major())?, number("minor", device.minor())?);
    if kind == RuleKind::All && (major.is_some() || minor.is_some()) {
        return Err(refused("type", "a rule for all types cannot have numbers; use b or c"));
    }
    let access =
        Access { read: letters.contains('r'), write: letters.contains('w'), mknod: letters.contains('m') };
    Ok(DeviceRule { allow: device.allow(), kind, major, minor, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str) -> Result<Vec<String>, CgroupError> {
        let devices: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let words =
            |rule: &DeviceRule| format!("{} {}", if rule.allow { "allow" } else { "deny" }, rule.v1_line());
        Ok(rules(&devices)?.iter().map(words).collect())
    }

    #[test]
    fn denying_all_leaves_what_every_container_needs() {
        let lines =
            lines(r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10}]"#)
                .unwrap();
        assert_eq!(lines[0], "deny a");
        assert_eq!(lines[1], "allow c *:* m");
        assert_eq!(lines[3], "allow c 1:3 rwm");
        assert_eq!(lines[10], "allow c 136:* rwm");
        assert_eq!(lines[11], "allow c 10:* rwm");
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn no_rules_leave_everything_open() {
        assert_eq!(lines("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn a_part_of_everything_is_said_of_each_kind() {
        let lines = lines(r#"[{"allow": false, "access": "w"}]"#).unwrap();
        assert_eq!(lines, ["deny b *:* w", "deny c *:* w"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"[{"allow": true, "type": "p"}]"#,
            r#"[{"allow": true, "type": "c", "major": -2}]"#,
            r#"[{"allow": true, "type": "c", "access": "x"}]"#,
            r#"[{"allow": true, "type": "a", "major": 1}]"#,
        ] {
            assert!(lines(json).is_err(), "{json}");
        }
    }
}
