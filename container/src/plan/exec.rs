//! A further process of a container: what is to be joined, and what the process is.

use oci_spec::runtime::{LinuxNamespaceType, Process};

use super::{Identity, MemoryPolicy, Namespaces, PlanError, ProcessPlan, scheduling};
use crate::bundle::Bundle;
use crate::seccomp::Filter;

/// Everything that the process is to do, in values that need no further checking.
#[derive(Debug)]
pub(crate) struct ExecPlan {
    pub(crate) identity: Identity,
    /// `CLONE_NEW…` bits of the container's own namespaces.
    pub(crate) namespaces: u64,
    /// Whether its root directory is not its mount namespace's, which it shares with others.
    pub(crate) chrooted: bool,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// The execution domain, personality(2).
    pub(crate) personality: Option<u32>,
    pub(crate) process: ProcessPlan,
    pub(crate) seccomp: Option<Filter>,
}

impl ExecPlan {
    /// Works out what is to be done for `process` in the container `id`, which has this configuration.
    pub(crate) fn new(id: &str, bundle: &Bundle, process: &Process) -> Result<Self, PlanError> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref().ok_or(PlanError::Missing { field: "linux" })?;
        let namespaces = Namespaces::new(linux)?;
        Ok(Self {
            identity: Identity::new(id.to_owned(), bundle),
            namespaces: namespaces.own(),
            chrooted: namespaces.joins(LinuxNamespaceType::Mount),
            memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
            personality: linux.personality().as_ref().map(scheduling::personality).transpose()?,
            process: ProcessPlan::new(process)?,
            seccomp: linux.seccomp().as_ref().map(Filter::compile).transpose()?,
        })
    }

    /// Whether the container's user ids are not the host's.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.namespaces & LinuxNamespaceType::User as u64 != 0
    }
}
