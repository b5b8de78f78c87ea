//! A further process of a container: what is to be joined, and what the process is.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Process};

use super::{MemoryPolicy, Namespaces, PlanError, ProcessPlan, scheduling};
use crate::bundle::Bundle;
use crate::hooks::HookState;
use crate::seccomp::Filter;

/// Everything that the process is to do, in values that need no further checking.
#[derive(Debug)]
pub(crate) struct ExecPlan {
    pub(crate) id: String,
    /// `CLONE_NEW…` bits of the container's own namespaces.
    pub(crate) namespaces: u64,
    /// Whether its root directory is not its mount namespace's, which it shares with others.
    pub(crate) chrooted: bool,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// The execution domain, personality(2).
    pub(crate) personality: Option<u32>,
    pub(crate) process: ProcessPlan,
    pub(crate) seccomp: Option<Filter>,
    bundle: PathBuf,
    oci_version: String,
    annotations: HashMap<String, String>,
}

impl ExecPlan {
    /// Works out what is to be done for `process` in the container `id`, which has this configuration.
    pub(crate) fn new(id: &str, bundle: &Bundle, process: &Process) -> Result<Self, PlanError> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref().ok_or(PlanError::Missing { field: "linux" })?;
        let namespaces = Namespaces::new(linux)?;
        Ok(Self {
            id: id.to_owned(),
            bundle: bundle.dir.clone(),
            oci_version: spec.version().clone(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            namespaces: namespaces.own(),
            chrooted: namespaces.joins(LinuxNamespaceType::Mount),
            memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
            personality: linux.personality().as_ref().map(scheduling::personality).transpose()?,
            process: ProcessPlan::new(process)?,
            seccomp: linux.seccomp().as_ref().map(Filter::compile).transpose()?,
        })
    }

    /// The container's state, whose first process has this id.
    pub(crate) fn state(&self, init: i32) -> Vec<u8> {
        let Self { id, bundle, oci_version, annotations, .. } = self;
        HookState { oci_version, id, status: "running", pid: Some(init), bundle, annotations }.json()
    }

    /// The version of the specification that the configuration is written for.
    pub(crate) fn oci_version(&self) -> &str {
        &self.oci_version
    }

    /// Whether the container's user ids are not the host's.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.namespaces & LinuxNamespaceType::User as u64 != 0
    }
}
