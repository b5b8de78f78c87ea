//! The mounts of a container, in the order they are made.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mount_options::MountOptions;
use super::namespaces::{IdMaps, Namespaces, id_maps};
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
    /// How the ids of a bind mount are mapped.
    pub(crate) ids: Option<MountIds>,
}

/// How ids look through a mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountIds {
    /// The ids of files and what they look like; `None`: as in the container's user namespace.
    pub(crate) maps: Option<IdMaps>,
    /// Mounts below are mapped too.
    pub(crate) recursive: bool,
    /// Where config.json says so.
    pub(crate) field: String,
}

/// A parameter of a filesystem: a name, and a value where it is no flag.
pub(crate) type FsParameter = (String, Option<String>);

/// What is mounted.
#[derive(Debug)]
pub(crate) enum MountKind {
    /// A file or directory of the host.
    Bind { source: PathBuf, recursive: bool },
    /// A filesystem of this type.
    Filesystem {
        fs_type: String,
        source: String,
        data: Vec<FsParameter>,
        /// It gets what the image has in its place.
        copy_up: bool,
    },
    /// The container's own cgroups, in the shape the host has them, or only the one of version 2.
    Cgroup { only_v2: bool },
    /// Nothing: what is mounted there is changed, its filesystem by these parameters.
    Remount { data: Vec<FsParameter> },
}

impl MountPlan {
    /// Whether this mounts a process or kernel tree, whose place must not be moved by a symbolic link.
    pub(crate) fn is_kernel_tree(&self) -> bool {
        matches!(&self.kind, MountKind::Filesystem { fs_type, .. } if fs_type == "proc" || fs_type == "sysfs")
    }
}

impl MountPlan {
    /// Whether mounts made in it later are to show where it was bound from.
    pub(crate) fn is_shared(&self) -> bool {
        self.attr.propagation == libc::MS_SHARED || self.attr_recursive.propagation == libc::MS_SHARED
    }
}

/// Reads the configuration's mounts. Relative bind sources are relative to `bundle`.
pub(crate) fn plan<'a>(
    mounts: impl Iterator<Item = &'a Mount>,
    bundle: &Path,
    namespaces: &Namespaces,
) -> Result<Vec<MountPlan>, PlanError> {
    let planned = mounts.enumerate().map(|(index, mount)| {
        let mut plan = plan_one(index, mount, bundle)?;
        plan.ids = ids(index, mount, plan.ids, matches!(plan.kind, MountKind::Bind { .. }), namespaces)?;
        Ok(plan)
    });
    planned.collect()
}

/// The maps of a mount: its own, or the container's.
fn ids(
    index: usize,
    mount: &Mount,
    asked: Option<MountIds>,
    is_bind: bool,
    namespaces: &Namespaces,
) -> Result<Option<MountIds>, PlanError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = mount.destination().display();
    let (uid, gid) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    let maps = id_maps([&field("uidMappings"), &field("gidMappings")], uid, gid)?;
    if asked.is_none() && maps.is_none() {
        return Ok(None);
    }
    let (recursive, field) = asked.map_or((false, field("uidMappings")), |ids| (ids.recursive, ids.field));
    if !is_bind {
        return Err(invalid(field, destination, "only the ids of a bind mount can be mapped"));
    }
    if maps.is_none() && !namespaces.has_own_user() {
        let reason =
            "needs uidMappings and gidMappings, for there is no user namespace whose maps could be used";
        return Err(invalid(field, destination, reason));
    }
    Ok(Some(MountIds { maps, recursive, field }))
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
    let MountOptions { bind, attr, mut attr_recursive, idmap, remount, copy_up, data } =
        MountOptions::parse(mount.options().iter().flatten())
            .map_err(|(option, refused)| invalid(field("options"), option, refused.0))?;
    let fs_type = mount.typ().as_deref().unwrap_or("");
    let source = mount.source().clone().unwrap_or_default();
    let bind = bind.or_else(|| matches!(fs_type, "bind" | "rbind").then_some(fs_type == "rbind"));
    if copy_up && (fs_type != "tmpfs" || bind.is_some() || remount) {
        return Err(invalid(field("options"), "tmpcopyup", "is for new mounts of type tmpfs"));
    }
    let kind = match bind {
        Some(_) if remount && !data.is_empty() => {
            return Err(invalid(field("options"), &data[0].0, "is no option of a bind mount"));
        }
        _ if remount => MountKind::Remount { data },
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
        None if matches!(fs_type, "cgroup" | "cgroup2") => {
            MountKind::Cgroup { only_v2: fs_type == "cgroup2" }
        }
        None => MountKind::Filesystem {
            fs_type: fs_type.to_owned(),
            source: source.to_string_lossy().into_owned(),
            data,
            copy_up,
        },
    };
    let ids = idmap.map(|recursive| MountIds { maps: None, recursive, field: field("options") });
    Ok(MountPlan { destination, kind, attr, attr_recursive, ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_json(json: &str) -> Result<MountPlan, PlanError> {
        plan_with(json, &Namespaces::default())
    }

    fn plan_with(json: &str, namespaces: &Namespaces) -> Result<MountPlan, PlanError> {
        let mount = serde_json::from_str(json).unwrap();
        Ok(plan([&mount].into_iter(), Path::new("/bundle"), namespaces)?.remove(0))
    }

    #[test]
    fn ids_are_mapped_as_the_mount_says_or_as_the_container_does() {
        let json = r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["ridmap"]}"#;
        let user = Namespaces { clone_flags: libc::CLONE_NEWUSER as u64, ..Namespaces::default() };
        let ids = plan_with(json, &user).unwrap().ids.unwrap();
        assert_eq!((ids.maps, ids.recursive), (None, true));
        let json = r#"{"destination": "/a", "type": "bind", "source": "/b",
            "uidMappings": [{"containerID": 0, "hostID": 7, "size": 9}],
            "gidMappings": [{"containerID": 1, "hostID": 8, "size": 2}]}"#;
        let ids = plan_json(json).unwrap().ids.unwrap();
        let maps = IdMaps { uid: "0 7 9\n".to_owned(), gid: "1 8 2\n".to_owned() };
        assert_eq!((ids.maps, ids.recursive), (Some(maps), false));
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
        assert!(matches!(cgroup.kind, MountKind::Cgroup { only_v2: false }));
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
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["tmpcopyup"]}"#,
                "mounts[0].options",
            ),
            (r#"{"destination": "/a", "options": ["bind", "remount", "size=1"]}"#, "mounts[0].options"),
            (r#"{"destination": "/a", "type": "tmpfs", "options": ["idmap"]}"#, "mounts[0].options"),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["idmap"]}"#,
                "mounts[0].options",
            ),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b",
                    "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}"#,
                "mounts[0].gidMappings",
            ),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b",
                    "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                    "gidMappings": [{"containerID": 0, "hostID": 1, "size": 0}]}"#,
                "mounts[0].gidMappings",
            ),
        ];
        for (json, expected) in cases {
            match plan_with(json, &Namespaces::default()) {
                Err(PlanError::Invalid { field, .. }) => assert_eq!(field, expected, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
