//! Device rules on v1: the controller keeps a default and a list of exceptions (admin-guide/cgroup-v1/devices.rst).
//!
//! It knows no order, and takes an exception away only by its exact words. So the rules are carried out here first, and
//! what is left at the end is written down. Not every list of rules comes to such an end: one number out of an allowed
//! range cannot be denied. An eBPF program can (`device_program.rs`).

use super::devices::{Access, DeviceRule, RuleKind};

/// A file of the controller and a line for it.
pub(super) type Write = (&'static str, String);

/// What to write, in order. `None`: a list of exceptions cannot say it. With `anew`, nothing is left of what the group
/// had before.
pub(super) fn writes(rules: &[DeviceRule], anew: bool) -> Option<Vec<Write>> {
    let mut open = true;
    let mut said_of_all = anew;
    let mut exceptions: Vec<DeviceRule> = Vec::new();
    for rule in rules {
        if rule.kind == RuleKind::All {
            (open, said_of_all) = (rule.allow, true);
            exceptions.clear();
        } else if rule.allow == open {
            take_away(&mut exceptions, rule)?;
        } else {
            exceptions.push(*rule);
        }
    }
    let all = said_of_all.then(|| (file(open), "a".to_owned()));
    let lines = exceptions.iter().map(|rule| (file(rule.allow), rule.v1_line()));
    Some(all.into_iter().chain(lines).collect())
}

fn file(allow: bool) -> &'static str {
    if allow { "devices.allow" } else { "devices.deny" }
}

/// Takes what a rule says out of the exceptions; `None` when one of them would have to keep a part of its numbers.
fn take_away(exceptions: &mut Vec<DeviceRule>, rule: &DeviceRule) -> Option<()> {
    for exception in exceptions.iter_mut() {
        let meet = exception.kind == rule.kind
            && meets(exception.major, rule.major)
            && meets(exception.minor, rule.minor)
            && !common(exception.access, rule.access).is_none();
        if !meet {
            continue;
        }
        if !(covers(rule.major, exception.major) && covers(rule.minor, exception.minor)) {
            return None;
        }
        exception.access = without(exception.access, rule.access);
    }
    exceptions.retain(|exception| !exception.access.is_none());
    Some(())
}

/// Whether a number can be both.
fn meets(one: Option<u32>, other: Option<u32>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Whether every number that is `inner` is `outer` as well.
fn covers(outer: Option<u32>, inner: Option<u32>) -> bool {
    outer.is_none() || outer == inner
}

fn common(one: Access, other: Access) -> Access {
    Access { read: one.read && other.read, write: one.write && other.write, mknod: one.mknod && other.mknod }
}

fn without(one: Access, other: Access) -> Access {
    Access {
        read: one.read && !other.read,
        write: one.write && !other.write,
        mknod: one.mknod && !other.mknod,
    }
}

impl Access {
    fn is_none(self) -> bool {
        !(self.read || self.write || self.mknod)
    }
}

impl DeviceRule {
    /// The rule as the controller reads it.
    pub(super) fn v1_line(&self) -> String {
        let kind = match self.kind {
            // `a` denies or allows everything, whatever else the line says.
            RuleKind::All => return "a".to_owned(),
            RuleKind::Block => 'b',
            RuleKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let Access { read, write, mknod } = self.access;
        let letters: String = [(read, 'r'), (write, 'w'), (mknod, 'm')]
            .iter()
            .filter_map(|(set, letter)| set.then_some(*letter))
            .collect();
        format!("{kind} {}:{} {letters}", number(self.major), number(self.minor))
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::rules;
    use super::*;

    fn lines(json: &str, anew: bool) -> Option<Vec<String>> {
        let rules = rules(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
        Some(writes(&rules, anew)?.iter().map(|(file, line)| format!("{file} {line}")).collect())
    }

    #[test]
    fn a_default_and_its_exceptions() {
        let json = r#"[{"allow": false}, {"allow": true, "type": "c", "major": 10, "access": "rw"}]"#;
        let lines = lines(json, false).unwrap();
        assert_eq!(lines[0], "devices.deny a");
        assert_eq!(lines[3], "devices.allow c 1:3 rwm");
        assert_eq!(lines[11], "devices.allow c 10:* rw");
    }

    #[test]
    fn a_wider_rule_takes_narrower_exceptions_away() {
        let json = r#"[{"allow": false, "type": "c", "major": 1, "minor": 3},
            {"allow": false, "type": "c", "major": 1, "minor": 5, "access": "rw"},
            {"allow": true, "type": "c", "major": 1, "access": "w"}]"#;
        assert_eq!(lines(json, false).unwrap(), ["devices.deny c 1:3 rm", "devices.deny c 1:5 r"]);
        assert_eq!(lines(json, true).unwrap()[0], "devices.allow a");
    }

    #[test]
    fn what_needs_an_order_cannot_be_said() {
        let json = r#"[{"allow": false}, {"allow": true, "type": "b", "major": 8},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"}]"#;
        assert_eq!(lines(json, false), None);
    }

    #[test]
    fn everything_again_forgets_what_was_said() {
        let json = r#"[{"allow": false, "type": "b", "major": 8}, {"allow": true}]"#;
        assert_eq!(lines(json, false).unwrap(), ["devices.allow a"]);
        assert_eq!(lines("[]", false).unwrap(), [""; 0]);
    }
}
