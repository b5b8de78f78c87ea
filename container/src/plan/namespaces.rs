//! Which namespaces are made, which are joined, and how user ids map.

use std::fmt::Write;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::{PlanError, invalid, time_offsets};

/// Most id ranges a map may have (the kernel's own limit, user_namespaces(7)).
const MAX_ID_RANGES: usize = 340;

/// The namespaces of a container.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW…` bits for clone3.
    pub(crate) clone_flags: u64,
    /// A cgroup namespace is made after the cgroup is joined, for its root is where its maker is at that moment.
    pub(crate) new_cgroup: bool,
    /// A new time namespace, with what to write to its `timens_offsets`: clone3 would put its child there at once, and
    /// offsets can only be set while nobody is in it.
    pub(crate) new_time: Option<String>,
    /// Namespaces that exist already.
    pub(crate) join: Vec<NamespaceToJoin>,
    /// The maps of a new user namespace.
    pub(crate) id_maps: Option<IdMaps>,
}

/// A namespace that exists already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamespaceToJoin {
    pub(crate) kind: LinuxNamespaceType,
    pub(crate) path: PathBuf,
    /// Where config.json says so.
    pub(crate) field: String,
}

/// The text of `uid_map` and `gid_map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) uid: String,
    pub(crate) gid: String,
}

impl Namespaces {
    /// Reads `linux.namespaces` and the id mappings.
    pub(crate) fn new(linux: &Linux) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        let mut seen = Vec::new();
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let kind = namespace.typ();
            let field = format!("linux.namespaces[{index}].path");
            if seen.contains(&kind) {
                return Err(invalid("linux.namespaces", kind, "is listed twice"));
            }
            seen.push(kind);
            match (namespace.path(), kind) {
                (Some(path), _) if !path.is_absolute() => {
                    return Err(invalid(field, path.display(), "must be an absolute path"));
                }
                (Some(path), _) => plan.join.push(NamespaceToJoin { kind, path: path.clone(), field }),
                (None, LinuxNamespaceType::Cgroup) => plan.new_cgroup = true,
                (None, LinuxNamespaceType::Time) => plan.new_time = Some(String::new()),
                (None, _) => plan.clone_flags |= kind as u64,
            }
        }
        if !plan.has_own(LinuxNamespaceType::Mount) {
            let reason = "a container needs a mount namespace; add {\"type\": \"mount\"}";
            return Err(invalid("linux.namespaces", "", reason));
        }
        if let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) {
            plan.new_time = Some(time_offsets::plan(offsets, plan.new_time.is_some())?);
        }
        // One that is joined has its maps already; what is said of them here describes it.
        if !plan.joins(LinuxNamespaceType::User) {
            plan.id_maps = container_maps(linux, plan.clone_flags & LinuxNamespaceType::User as u64 != 0)?;
        }
        Ok(plan)
    }

    /// Whether the container's host name is its own.
    pub(crate) fn has_own_uts(&self) -> bool {
        self.has_own(LinuxNamespaceType::Uts)
    }

    /// Whether the container does not share this namespace with the host.
    pub(crate) fn has_own(&self, kind: LinuxNamespaceType) -> bool {
        self.clone_flags & kind as u64 != 0 || self.joins(kind)
    }

    /// Whether a namespace of this kind is joined.
    pub(crate) fn joins(&self, kind: LinuxNamespaceType) -> bool {
        self.join.iter().any(|joined| joined.kind == kind)
    }

    /// Whether the container's user ids are not the host's.
    pub(crate) fn has_own_user(&self) -> bool {
        self.has_own(LinuxNamespaceType::User)
    }

    /// `CLONE_NEW…` bits of all that the container does not share with the host.
    pub(crate) fn own(&self) -> u64 {
        let made = [
            (self.new_cgroup, LinuxNamespaceType::Cgroup),
            (self.new_time.is_some(), LinuxNamespaceType::Time),
        ];
        let made = made.into_iter().filter(|(made, _)| *made).map(|(_, kind)| kind);
        let others = made.chain(self.join.iter().map(|joined| joined.kind));
        others.fold(self.clone_flags, |bits, kind| bits | kind as u64)
    }

    /// Whether a new network namespace is made, whose loopback is ours to bring up.
    pub(crate) fn new_network(&self) -> bool {
        self.clone_flags & LinuxNamespaceType::Network as u64 != 0
    }

    /// Whether a new user namespace is made.
    pub(crate) fn new_user(&self) -> bool {
        self.id_maps.is_some()
    }
}

fn container_maps(linux: &Linux, new_user: bool) -> Result<Option<IdMaps>, PlanError> {
    let (uid, gid) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
    let maps = id_maps(["linux.uidMappings", "linux.gidMappings"], uid, gid)?;
    match (new_user, maps) {
        (false, Some(maps)) => {
            Err(invalid("linux.uidMappings", maps.uid.trim_end(), "needs a user namespace"))
        }
        (true, None) => {
            let reason = "a user namespace needs both linux.uidMappings and linux.gidMappings";
            Err(invalid("linux.namespaces", "user", reason))
        }
        (_, maps) => Ok(maps),
    }
}

/// The maps of user and group ids, which come together or not at all.
pub(super) fn id_maps(
    fields: [&str; 2],
    uid: Option<&[LinuxIdMapping]>,
    gid: Option<&[LinuxIdMapping]>,
) -> Result<Option<IdMaps>, PlanError> {
    match (id_map(fields[0], uid)?, id_map(fields[1], gid)?) {
        (None, None) => Ok(None),
        (Some(uid), Some(gid)) => Ok(Some(IdMaps { uid, gid })),
        (uid, _) => {
            let missing = if uid.is_none() { fields[0] } else { fields[1] };
            Err(invalid(missing, "", "is missing; user and group ids are mapped together"))
        }
    }
}

fn id_map(field: &str, ranges: Option<&[LinuxIdMapping]>) -> Result<Option<String>, PlanError> {
    let ranges = ranges.unwrap_or_default();
    if ranges.len() > MAX_ID_RANGES {
        return Err(invalid(field, ranges.len(), "has more ranges than the kernel takes, 340"));
    }
    let mut text = String::new();
    for range in ranges {
        let (inside, outside, size) = (range.container_id(), range.host_id(), range.size());
        if size == 0 || inside.checked_add(size).is_none() || outside.checked_add(size).is_none() {
            let value = format!("{inside} {outside} {size}");
            return Err(invalid(field, value, "must be a range of at least one id below 2^32"));
        }
        let _infallible = writeln!(text, "{inside} {outside} {size}");
    }
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Namespaces, PlanError> {
        Namespaces::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn new_namespaces_become_clone_flags_apart_from_the_cgroup_one() {
        let plan = plan(
            r#"{"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"},
                {"type": "network", "path": "/run/netns/x"}]}"#,
        )
        .unwrap();
        assert_eq!(plan.clone_flags, (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64);
        assert!(plan.new_cgroup);
        assert!(!plan.new_network());
        assert!(plan.has_own(LinuxNamespaceType::Network));
        assert!(!plan.has_own_uts());
        let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWCGROUP | libc::CLONE_NEWNET;
        assert_eq!(plan.own(), own as u64);
    }

    #[test]
    fn a_joined_user_namespace_has_its_own_maps() {
        let plan = plan(
            r#"{"namespaces": [{"type": "mount", "path": "/m"}, {"type": "user", "path": "/u"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}"#,
        )
        .unwrap();
        assert!(plan.has_own_user() && !plan.new_user());
        assert_eq!(plan.join[1].field, "linux.namespaces[1].path");
        assert_eq!(plan.clone_flags, 0);
    }

    #[test]
    fn a_time_namespace_is_not_for_clone3() {
        let plan = plan(
            r#"{"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"boottime": {"secs": -5}}}"#,
        )
        .unwrap();
        assert_eq!(plan.clone_flags, libc::CLONE_NEWNS as u64);
        assert_eq!(plan.new_time.as_deref(), Some("boottime -5 0\n"));
    }

    #[test]
    fn id_maps_are_written_as_the_kernel_reads_them() {
        let plan = plan(
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
                "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 1},
                                {"containerID": 1, "hostID": 300000, "size": 9}]}"#,
        )
        .unwrap();
        let expected = IdMaps { uid: "0 100000 65536\n".into(), gid: "0 200000 1\n1 300000 9\n".into() };
        assert_eq!(plan.id_maps, Some(expected));
    }

    #[test]
    fn contradictions_are_refused() {
        let cases = [
            r#"{"namespaces": []}"#,
            r#"{"namespaces": [{"type": "mount"}], "timeOffsets": {"boottime": {"secs": 1}}}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "time", "path": "/x"}],
                "timeOffsets": {"boottime": {"secs": 1}}}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "mount"}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "network", "path": "run/netns/x"}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}]}"#,
            r#"{"namespaces": [{"type": "mount"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 4294967295, "size": 1}]}"#,
        ];
        for json in cases {
            assert!(matches!(plan(json), Err(PlanError::Invalid { .. })), "{json}");
        }
    }
}
