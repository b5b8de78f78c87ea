//! The mounts of a container, in the order they are made.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mount_options::MountOptions;
use super::{PlanError, invalid};
use crate::sys::MountAttr;

/// One mount.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Where, as seen from inside the container. Resolved without leaving the root filesystem.
    pub(crate) destination: PathBuf,
    pub(crate) kind: MountKind,
    /// Flags of this mount alone.
    pub(crate) attr: MountAttr,
    /// Flags of this mount and all below it.
    pub(crate) attr_recursive: MountAttr,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum MountKind {
    /// A file or directory of the host.
    Bind { source: PathBuf, recursive: bool },
    /// A filesystem of this type.
    Filesystem { fs_type: String, source: String, data: Vec<(String, Option<String>)> },
    /// The container's own cgroups, in the shape the host has them.
    Cgroup,
}

impl MountPlan {
    /// Whether this mounts a process or kernel tree, whose place must not be moved by a symbolic link.
    pub(crate) fn is_kernel_tree(&self) -> bool {
        matches!(&self.kind, MountKind::Filesystem { fs_type, .. } if fs_type == "proc" || fs_type == "sysfs")
    }
}

/// Reads the configuration's mounts. Relative bind sources are relative to `bundle`.
pub(crate) fn plan<'a>(
    mounts: impl Iterator<Item = &'a Mount>,
    bundle: &Path,
) -> Result<Vec<MountPlan>, PlanError> {
    mounts.enumerate().map(|(index, mount)| plan_one(index, mount, bundle)).collect()
}

fn plan_one(index: usize, mount: &Mount, bundle: &Path) -> Result<MountPlan, PlanError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = mount.destination();
    if destination.components().any(|c| c == Component::ParentDir) {
        return Err(invalid(field("destination"), destination.display(), "must not hold '..'"));
    }
    // A relative destination was allowed by early versions of the specification: it is relative to the root.
    let destination = Path::new("/").join(destination);
    if destination == Path::new("/") {
        return Err(invalid(field("destination"), "/", "the root is set by root.path, not by a mount"));
    }
    let MountOptions { bind, attr, mut attr_recursive, data } =
        MountOptions::parse(mount.options().iter().flatten())
            .map_err(|(option, refused)| invalid(field("options"), option, refused.0))?;
    let fs_type = mount.typ().as_deref().unwrap_or("");
    let source = mount.source().clone().unwrap_or_default();
    let bind = bind.or_else(|| matches!(fs_type, "bind" | "rbind").then_some(fs_type == "rbind"));
    let kind = match bind {
        Some(_) if source.as_os_str().is_empty() => {
            return Err(invalid(field("source"), "", "a bind mount needs one"));
        }
        Some(_) if !data.is_empty() => {
            return Err(invalid(field("options"), &data[0].0, "is no option of a bind mount"));
        }
        Some(recursive) => {
            // Nothing mounted inside shows outside unless asked for.
            if attr.propagation == 0 && attr_recursive.propagation == 0 {
                attr_recursive.propagation = libc::MS_PRIVATE;
            }
            MountKind::Bind { source: bundle.join(source), recursive }
        }
        None if fs_type.is_empty() => return Err(invalid(field("type"), "", "is missing")),
        None if matches!(fs_type, "cgroup" | "cgroup2") => MountKind::Cgroup,
        None => MountKind::Filesystem {
            fs_type: fs_type.to_owned(),
            source: source.to_string_lossy().into_owned(),
            data,
        },
    };
    Ok(MountPlan { destination, kind, attr, attr_recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_json(json: &str) -> Result<MountPlan, PlanError> {
        plan_one(0, &serde_json::from_str(json).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn a_relative_source_is_in_the_bundle() {
        let plan =
            plan_json(r#"{"destination": "/data", "source": "data", "options": ["rbind", "ro"]}"#).unwrap();
        let MountKind::Bind { source, recursive } = plan.kind else { panic!("{plan:?}") };
        assert_eq!(source, Path::new("/bundle/data"));
        assert!(recursive);
        assert_eq!(plan.attr_recursive.propagation, libc::MS_PRIVATE);
    }

    #[test]
    fn types_are_recognised() {
        let proc = plan_json(r#"{"destination": "proc", "type": "proc"}"#).unwrap();
        assert!(proc.is_kernel_tree());
        assert_eq!(proc.destination, Path::new("/proc"));
        let cgroup = plan_json(r#"{"destination": "/sys/fs/cgroup", "type": "cgroup"}"#).unwrap();
        assert!(matches!(cgroup.kind, MountKind::Cgroup));
        let bind = plan_json(r#"{"destination": "/x", "type": "bind", "source": "/y"}"#).unwrap();
        assert!(matches!(bind.kind, MountKind::Bind { recursive: false, .. }));
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        let cases = [
            (r#"{"destination": "/a/../b", "type": "tmpfs"}"#, "mounts[0].destination"),
            (r#"{"destination": "/", "type": "tmpfs"}"#, "mounts[0].destination"),
            (r#"{"destination": "/a"}"#, "mounts[0].type"),
            (r#"{"destination": "/a", "type": "bind"}"#, "mounts[0].source"),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["size=1"]}"#,
                "mounts[0].options",
            ),
            (r#"{"destination": "/a", "type": "tmpfs", "options": ["remount"]}"#, "mounts[0].options"),
        ];
        for (json, expected) in cases {
            match plan_json(json) {
                Err(PlanError::Invalid { field, .. }) => assert_eq!(field, expected, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
