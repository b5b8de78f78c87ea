//! What a configuration wants of a group on this host: each limit in the form that one of its trees takes, and device
//! rules.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::CgroupError;
use super::device_rules::DeviceRules;
use super::hierarchy::{Hierarchy, V1Tree};
use super::limits::{self, Setting, Target};

/// What a group is to have.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) limits: Vec<Limit>,
    pub(super) rules: DeviceRules,
}

/// A limit, and where on this host it goes.
#[derive(Debug)]
pub(super) struct Limit {
    /// Its path below `linux.resources`.
    pub(super) field: String,
    pub(super) version: Version,
    pub(super) target: Target,
    /// It asks for no more than what holds where the kernel has no such file.
    pub(super) optional: bool,
}

/// Which tree a limit goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Wanted {
    /// Finds the tree for each limit of `resources`, and what enforces these device rules; with `anew`, they take the
    /// place of others.
    pub(super) fn choose(
        hierarchy: &Hierarchy,
        resources: &LinuxResources,
        devices: &[LinuxDeviceCgroup],
        anew: bool,
    ) -> Result<Self, CgroupError> {
        let settings = limits::settings(resources)?.into_iter();
        let limits = settings.filter_map(|setting| Limit::choose(hierarchy, setting).transpose());
        Ok(Self {
            limits: limits.collect::<Result<_, _>>()?,
            rules: DeviceRules::choose(hierarchy, devices, anew)?,
        })
    }

    /// A limit that needs this tree.
    pub(super) fn limit_of_v1(&self, tree: &V1Tree) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.version == Version::V1 && tree.has(&limit.target.controller))
    }

    /// Whether device rules need this tree.
    pub(super) fn guards_v1(&self, tree: &V1Tree) -> bool {
        self.rules.need_v1() && tree.has("devices")
    }

    /// The limits that go into the v2 tree.
    pub(super) fn limits_of_v2(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(|limit| limit.version == Version::V2)
    }
}

impl Limit {
    /// `None` when the host has no tree for it, and it can be done without.
    fn choose(hierarchy: &Hierarchy, setting: Setting) -> Result<Option<Self>, CgroupError> {
        let version = if setting.v1.as_ref().is_some_and(|target| hierarchy.has_v1(&target.controller)) {
            Version::V1
        } else if setting.v2.as_ref().is_some_and(|target| hierarchy.has_v2(&target.controller)) {
            Version::V2
        } else if setting.optional {
            return Ok(None);
        } else {
            return Err(missing(hierarchy, &setting));
        };
        let Setting { field, v1, v2, optional } = setting;
        let target = if version == Version::V1 { v1 } else { v2 };
        Ok(target.map(|target| Self { field, version, target, optional }))
    }
}

/// Why this host cannot have it.
fn missing(hierarchy: &Hierarchy, setting: &Setting) -> CgroupError {
    let field = setting.field.clone();
    let unsupported = |reason| CgroupError::Unsupported { field: field.clone(), reason };
    let v2_alone = hierarchy.v1.is_empty() && hierarchy.v2.is_some();
    match (&setting.v1, &setting.v2) {
        (Some(_), None) if v2_alone => {
            unsupported("cgroup v2, which this host has, knows no such limit; remove it")
        }
        (None, Some(_)) if hierarchy.v2.is_none() => unsupported(
            "is for cgroup v2, and this host has v1; use the field of linux.resources that says the same",
        ),
        (None, Some(target)) if hierarchy.has_v1(&target.controller) => unsupported(
            "is for cgroup v2, and this host has the controller in a v1 tree; use the field of linux.resources \
             that says the same",
        ),
        (Some(target), _) | (None, Some(target)) => {
            CgroupError::MissingController { field, controller: target.controller.to_string() }
        }
        (None, None) => unsupported("says nothing"),
    }
}
