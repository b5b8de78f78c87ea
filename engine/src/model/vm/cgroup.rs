//! The cgroup of a virtual machine: the monitor's own process sits in it, with all that the guest uses.

use std::{
    fs,
    path::{Path, PathBuf},
};

use container::cgroup::{Cgroup, CgroupError, Hierarchy};
use rustix::process::{Pid, getpid};

use crate::{
    error::{EngineError, Result},
    instance::Instance,
    model::limits,
};

/// The monitor in its instance's cgroup.
#[derive(Debug)]
pub(super) struct MachineCgroup {
    cgroup: Cgroup,
    /// `cgroup.procs` of the groups that the monitor came from, one in each tree.
    came_from: Vec<PathBuf>,
}

impl MachineCgroup {
    /// Makes the instance's cgroup and moves this process into it.
    pub(super) fn enter(instance: &Instance) -> Result<Self> {
        let hierarchy = Hierarchy::detect(Path::new("/")).map_err(refused)?;
        let came_from = own_groups(&hierarchy)?;
        let cgroup =
            Cgroup::create(&hierarchy, Path::new(&instance.cgroup()), &limits::machine(&instance.spec))
                .map_err(refused)?;
        let entered = Self { cgroup, came_from };
        match entered.cgroup.add(getpid()) {
            Ok(()) => Ok(entered),
            Err(error) => {
                if let Err(left) = entered.leave() {
                    tracing::warn!(%left, "a cgroup is left to the next command");
                }
                Err(refused(error))
            }
        }
    }

    /// Moves this process back to where it came from and removes the cgroup.
    pub(super) fn leave(&self) -> Result<()> {
        let pid = Pid::as_raw_nonzero(getpid()).to_string();
        for procs in &self.came_from {
            fs::write(procs, &pid).map_err(EngineError::file("move back to the cgroup of", procs))?;
        }
        self.cgroup.remove().map_err(refused)
    }
}

fn refused(error: CgroupError) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// Where this process is now, by `/proc/self/cgroup` (`man 7 cgroups`): `ID:CONTROLLERS:PATH`.
fn own_groups(hierarchy: &Hierarchy) -> Result<Vec<PathBuf>> {
    let text =
        fs::read_to_string("/proc/self/cgroup").map_err(EngineError::file("read", "/proc/self/cgroup"))?;
    Ok(groups(&text, hierarchy))
}

fn groups(text: &str, hierarchy: &Hierarchy) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let tree = if controllers.is_empty() {
                &hierarchy.v2.as_ref()?.dir
            } else {
                let first = controllers.split(',').next()?;
                &hierarchy.v1.iter().find(|t| t.controllers.iter().any(|c| c == first))?.dir
            };
            Some(tree.join(path.trim_start_matches('/')).join("cgroup.procs"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use container::cgroup::{V1Tree, V2Tree};

    use super::*;

    #[test]
    fn finds_the_way_back_on_a_hybrid_host() {
        let v1 = |name: &str| V1Tree {
            controllers: name.split(',').map(str::to_owned).collect(),
            dir: Path::new("/sys/fs/cgroup").join(name),
        };
        let hierarchy = Hierarchy {
            v1: vec![v1("cpu,cpuacct"), v1("memory")],
            v2: Some(V2Tree { controllers: Vec::new(), dir: "/sys/fs/cgroup/unified".into() }),
        };
        let text = "4:memory:/user/a:b\n3:cpu,cpuacct:/\n2:name=systemd:/x\n0::/session\n";
        assert_eq!(
            groups(text, &hierarchy),
            [
                Path::new("/sys/fs/cgroup/memory/user/a:b/cgroup.procs"),
                Path::new("/sys/fs/cgroup/cpu,cpuacct/cgroup.procs"),
                Path::new("/sys/fs/cgroup/unified/session/cgroup.procs"),
            ]
        );
    }
}
