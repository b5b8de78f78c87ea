//! The cgroup of a virtual machine: the process of its VMM sits in it, with all that the guest uses.

use std::path::Path;

use container::cgroup::{Cgroup, CgroupError, Hierarchy};
use rustix::process::Pid;

use crate::{
    error::{EngineError, Result},
    instance::Instance,
    model::limits,
};

/// The cgroup of an instance.
#[derive(Debug)]
pub(super) struct MachineCgroup(Cgroup);

impl MachineCgroup {
    /// Makes the instance's cgroup, empty.
    pub(super) fn create(instance: &Instance) -> Result<Self> {
        let hierarchy = Hierarchy::detect(Path::new("/")).map_err(refused)?;
        let path = instance.cgroup();
        let cgroup = Cgroup::create(&hierarchy, Path::new(&path), &limits::machine(&instance.spec));
        cgroup.map(Self).map_err(refused)
    }

    /// Moves the process `pid` into it.
    pub(super) fn add(&self, pid: u32) -> Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| EngineError::Invalid("the VMM's process has no id".to_owned()))?;
        self.0.add(pid).map_err(refused)
    }

    /// Removes it. The process has ended.
    pub(super) fn remove(&self) -> Result<()> {
        self.0.remove().map_err(refused)
    }
}

fn refused(error: CgroupError) -> EngineError {
    EngineError::Invalid(error.to_string())
}
