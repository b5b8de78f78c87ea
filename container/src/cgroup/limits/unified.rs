//! `linux.resources.unified`: files of v2 in the kernel's own words.

use std::collections::HashMap;

use super::{Setting, refused};
use crate::cgroup::CgroupError;

/// What a group has without a controller and a configuration may set. The other files of this kind move processes, end
/// them or change the tree.
const OWN_FILES: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

pub(super) fn add(files: &HashMap<String, String>, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    for (name, value) in sorted {
        let field = format!("unified.{}", name.escape_debug());
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let Some((controller, rest)) = name.split_once('.').filter(|_| plain) else {
            return Err(refused(field, "must be the name of a file, like memory.high, and not a path"));
        };
        if controller.is_empty() || rest.is_empty() || name.contains("..") {
            return Err(refused(field, "must be the name of a file, like memory.high, and not a path"));
        }
        if controller == "cgroup" && !OWN_FILES.contains(&name.as_str()) {
            return Err(refused(field, "is not for a configuration to set"));
        }
        // The kernel takes one line a write.
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            settings.push(Setting::new(field.clone()).v2(controller.to_owned(), name.clone(), line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{files, refused_field};

    #[test]
    fn written_as_given_line_by_line() {
        let json = r#"{"unified": {"memory.high": "1G", "io.max": "8:0 rbps=1\n8:16 wbps=2\n",
            "cgroup.max.depth": "3"}}"#;
        let (v1, v2) = files(json);
        assert!(v1.is_empty());
        assert_eq!(v2, ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 wbps=2", "memory.high=1G"]);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in [
            "../x.y",
            "memory",
            "",
            ".",
            "..",
            "memory.",
            ".max",
            "a/b.c",
            "memory.max/../x",
            "memory..x",
            "a\\u0000.b",
        ] {
            let json = format!(r#"{{"unified": {{"{name}": "1"}}}}"#);
            assert!(refused_field(&json).starts_with("unified."), "{name}");
        }
        for name in ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type"] {
            let json = format!(r#"{{"unified": {{"{name}": "1"}}}}"#);
            assert_eq!(refused_field(&json), format!("unified.{name}"));
        }
    }
}
