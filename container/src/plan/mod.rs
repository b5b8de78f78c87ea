//! `config.json` turned into ready-to-use values, before anything is created.
//!
//! Everything that can be wrong about the configuration itself is found here, in the creator, where an error is
//! cheap; the init process then only makes system calls.

mod devices;
mod exec;
mod hooks;
mod identity;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod number_list;
mod process;
mod scheduling;
mod sysctl;
mod time_offsets;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::bundle::Bundle;
use crate::hooks::Hooks;
use crate::seccomp::{Filter, SeccompError};

pub(crate) use devices::{DeviceKind, DevicePlan};
pub(crate) use exec::ExecPlan;
pub(crate) use identity::Identity;
#[cfg(test)]
pub(crate) use mount_options::is_mount_word;
pub(crate) use mounts::{FsParameter, MountIds, MountKind, MountPlan};
pub(crate) use namespaces::{IdMaps, NamespaceToJoin, Namespaces};
pub(crate) use net_devices::NetDevicePlan;
pub(crate) use number_list::number_list;
pub(crate) use process::{Capabilities, ProcessPlan, RlimitPlan, all_capabilities};
pub(crate) use scheduling::{ExecAffinity, MemoryPolicy};
pub(crate) use sysctl::SysctlPlan;

/// Everything the init process is to do, in values that need no further checking.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) identity: Identity,
    pub(crate) rootfs: PathBuf,
    pub(crate) rootfs_readonly: bool,
    pub(crate) rootfs_propagation: RootPropagation,
    pub(crate) namespaces: Namespaces,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Vec<MountPlan>,
    /// Device nodes to make; `None` when /dev is bound from elsewhere and already has what it needs.
    pub(crate) devices: Option<Vec<DevicePlan>>,
    pub(crate) masked_paths: Vec<PathBuf>,
    pub(crate) readonly_paths: Vec<PathBuf>,
    pub(crate) sysctls: Vec<SysctlPlan>,
    pub(crate) process: ProcessPlan,
    pub(crate) seccomp: Option<Filter>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// The execution domain, personality(2).
    pub(crate) personality: Option<u32>,
    /// Network devices of the host that become its own.
    pub(crate) net_devices: Vec<NetDevicePlan>,
    pub(crate) hooks: Hooks,
    /// What of the configuration is left out, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// `linux.rootfsPropagation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootPropagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) kind: u64,
    /// It holds for the mounts that the root filesystem brings with it, too.
    pub(crate) recursive: bool,
}

/// A configuration that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A field that must be there is not.
    #[error("config.json: {field} is missing")]
    Missing {
        /// The field, as a path through the JSON.
        field: &'static str,
    },
    /// A field's value makes no sense, or not together with others.
    #[error("config.json: {field}: {value:?}: {reason}")]
    Invalid {
        /// The field, as a path through the JSON.
        field: String,
        /// What it holds.
        value: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// The seccomp profile cannot be compiled.
    #[error("config.json: linux.seccomp: {0}")]
    Seccomp(#[from] SeccompError),
}

/// Makes an [`PlanError::Invalid`].
pub(crate) fn invalid(field: impl Into<String>, value: impl ToString, reason: &'static str) -> PlanError {
    PlanError::Invalid { field: field.into(), value: value.to_string(), reason }
}

impl Plan {
    /// Works out what is to be done for the container `id` from its bundle.
    pub(crate) fn new(bundle: &Bundle, id: &str) -> Result<Self, PlanError> {
        let spec = &bundle.spec;
        let root = spec.root().as_ref().ok_or(PlanError::Missing { field: "root" })?;
        let process = spec.process().as_ref().ok_or(PlanError::Missing { field: "process" })?;
        let linux = spec.linux().as_ref().ok_or(PlanError::Missing { field: "linux" })?;
        let namespaces = Namespaces::new(linux)?;
        let mounts = mounts::plan(spec.mounts().iter().flatten(), &bundle.dir, &namespaces)?;
        let devices = devices::plan(linux.devices().iter().flatten(), &mounts)?;
        let (hostname, domainname) = names(spec, &namespaces)?;
        Ok(Self {
            identity: Identity::new(checked_id(id)?, bundle),
            memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
            personality: linux.personality().as_ref().map(scheduling::personality).transpose()?,
            net_devices: net_devices::plan(&linux.net_devices().clone().unwrap_or_default(), &namespaces)?,
            hooks: hooks(spec)?,
            warnings: bundle.warnings.clone(),
            rootfs: rootfs(&bundle.dir, root.path())?,
            rootfs_readonly: root.readonly().unwrap_or(false),
            rootfs_propagation: propagation(linux.rootfs_propagation().as_deref())?,
            hostname,
            domainname,
            mounts,
            devices,
            masked_paths: absolute("linux.maskedPaths", linux.masked_paths().iter().flatten())?,
            readonly_paths: absolute("linux.readonlyPaths", linux.readonly_paths().iter().flatten())?,
            sysctls: sysctl::plan(linux.sysctl().iter().flatten(), &namespaces)?,
            process: ProcessPlan::new(process)?,
            seccomp: linux.seccomp().as_ref().map(Filter::compile).transpose()?,
            namespaces,
        })
    }
}

/// The hooks of a configuration.
pub(crate) fn hooks(spec: &Spec) -> Result<Hooks, PlanError> {
    Ok(spec.hooks().as_ref().map(hooks::plan).transpose()?.unwrap_or_default())
}

/// An id names a cgroup directory and a keyring, so it must be an ordinary name.
pub(crate) fn checked_id(id: &str) -> Result<String, PlanError> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    if id.is_empty() || id.len() > 255 || id.starts_with('.') || !id.chars().all(ordinary) {
        let reason =
            "an id is up to 255 letters, digits, and '_', '.', '-', '+', and does not start with a dot";
        return Err(invalid("(id)", id, reason));
    }
    Ok(id.to_owned())
}

/// Host and domain name, which need a UTS namespace of the container's own.
fn names(spec: &Spec, namespaces: &Namespaces) -> Result<(Option<String>, Option<String>), PlanError> {
    let fields = [("hostname", spec.hostname()), ("domainname", spec.domainname())];
    for (field, name) in fields {
        let Some(name) = name else { continue };
        if name.len() > 64 || name.contains('\0') {
            return Err(invalid(field, name, "must be at most 64 bytes without NUL"));
        }
        if !namespaces.has_own_uts() {
            return Err(invalid(
                field,
                name,
                "needs a uts namespace; add {\"type\": \"uts\"} to linux.namespaces",
            ));
        }
    }
    Ok((spec.hostname().clone(), spec.domainname().clone()))
}

/// The root filesystem's directory: `path` is absolute, or relative to the bundle. The kernel resolves it.
fn rootfs(bundle: &Path, path: &Path) -> Result<PathBuf, PlanError> {
    if path.as_os_str().is_empty() {
        return Err(PlanError::Missing { field: "root.path" });
    }
    let rootfs = bundle.join(path);
    let depth = rootfs.components().fold(0_usize, |depth, part| match part {
        Component::Normal(_) => depth + 1,
        Component::ParentDir => depth.saturating_sub(1),
        _ => depth,
    });
    if depth == 0 {
        return Err(invalid(
            "root.path",
            path.display(),
            "is the host's own root; a container needs another",
        ));
    }
    Ok(rootfs)
}

fn propagation(value: Option<&str>) -> Result<RootPropagation, PlanError> {
    let value = value.filter(|value| !value.is_empty()).unwrap_or("rslave");
    let kind = match value.strip_prefix('r').unwrap_or(value) {
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => {
            let reason = "must be shared, slave, private or unbindable, or one of these with an r in front";
            return Err(invalid("linux.rootfsPropagation", value, reason));
        }
    };
    Ok(RootPropagation { kind, recursive: value.starts_with('r') })
}

fn absolute<'a>(
    field: &'static str,
    paths: impl Iterator<Item = &'a String>,
) -> Result<Vec<PathBuf>, PlanError> {
    paths
        .map(|path| match path.starts_with('/') && !path.contains('\0') {
            true => Ok(PathBuf::from(path)),
            false => Err(invalid(field, path, "must be an absolute path")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(change: impl FnOnce(&mut serde_json::Value), id: &str) -> Result<Plan, PlanError> {
        let mut json = serde_json::to_value(crate::spec::default_spec()).unwrap();
        change(&mut json);
        let spec = serde_json::from_value(json).unwrap();
        Plan::new(&Bundle { dir: "/bundle".into(), spec, json: Vec::new(), warnings: Vec::new() }, id)
    }

    #[test]
    fn the_default_spec_makes_a_plan() {
        let plan = plan(|_| (), "web").unwrap();
        assert_eq!(plan.rootfs, PathBuf::from("/bundle/rootfs"));
        assert!(plan.seccomp.is_some());
        assert!(plan.devices.is_some());
    }

    #[test]
    fn an_id_that_is_no_plain_name_is_refused() {
        for id in ["", ".", "..", "a/b", "../x", "a b", "a\0b", &"x".repeat(256)] {
            assert!(matches!(plan(|_| (), id), Err(PlanError::Invalid { .. })), "{id:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for field in ["root", "process", "linux"] {
            let error = plan(|json| drop(json.as_object_mut().unwrap().remove(field)), "x").unwrap_err();
            assert_eq!(error.to_string(), format!("config.json: {field} is missing"));
        }
    }

    #[test]
    fn a_hostname_needs_its_namespace() {
        let error = plan(
            |json| {
                json["hostname"] = "h".into();
                json["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
            },
            "x",
        );
        assert!(error.unwrap_err().to_string().starts_with("config.json: hostname: \"h\": needs a uts"));
    }

    #[test]
    fn relative_masked_paths_and_unknown_propagation_are_refused() {
        assert!(plan(|json| json["linux"]["maskedPaths"] = serde_json::json!(["proc/kcore"]), "x").is_err());
        for word in ["r", "rrshared", "public", "Shared"] {
            assert!(plan(|json| json["linux"]["rootfsPropagation"] = word.into(), "x").is_err(), "{word}");
        }
        let shared = plan(|json| json["linux"]["rootfsPropagation"] = "rshared".into(), "x").unwrap();
        assert_eq!(shared.rootfs_propagation, RootPropagation { kind: libc::MS_SHARED, recursive: true });
    }
}
