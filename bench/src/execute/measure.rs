//! Measures the memory and CPU time of one running instance, by its processes, its cgroup and its guest.

use std::fs;
use std::path::{Path, PathBuf};

use super::cpu_time;
use crate::memory::reconcile::reconcile;
use crate::memory::{GuestMemory, Memory, ProcessMemory, Role, cgroup, smaps, tree};

/// How deep below the instance's cgroup its processes are looked for.
const DEPTH: usize = 4;

/// Where an instance's processes and charges are found.
pub(super) struct Target {
    /// The command in the foreground.
    pub command: u32,
    /// What the command is for: the foreground command of ours, or a peer's runtime.
    pub command_role: Role,
    /// The monitor.
    pub monitor: Option<u32>,
    /// The first process of a container.
    pub init: Option<u32>,
    /// Whether the monitor is a VMM.
    pub vm: bool,
    /// The memory controller's directory.
    pub cgroup: Option<PathBuf>,
    /// The guest's own view.
    pub guest: Option<GuestMemory>,
}

/// The memory of an instance; `None` when none of its processes can be read any more.
pub(super) fn memory(target: Target) -> Option<Memory> {
    let roots: Vec<u32> = [Some(target.command), target.monitor, target.init].into_iter().flatten().collect();
    let pids = tree::with_descendants(&roots, &tree::all());
    let inside = target.cgroup.as_deref().map(|directory| members(directory, DEPTH));
    let processes: Vec<ProcessMemory> = pids
        .iter()
        .filter_map(|&pid| {
            let in_cgroup = inside.as_ref().map(|pids| pids.contains(&pid));
            process(pid, role(&target, pid), in_cgroup)
        })
        .collect();
    if processes.is_empty() {
        return None;
    }
    let cgroup = target.cgroup.as_deref().and_then(cgroup::read);
    let reconciliation = cgroup.as_ref().map(|cgroup| reconcile(cgroup, &processes));
    Some(Memory {
        process_bytes: processes.iter().map(|p| p.pss_bytes).sum(),
        guest_ram_bytes: processes.iter().filter_map(|p| p.guest_ram_bytes).reduce(|a, b| a + b),
        processes,
        cgroup,
        guest: target.guest,
        reconciliation,
        cpu_ns: cpu_time::total_ns(&pids),
    })
}

fn role(target: &Target, pid: u32) -> Role {
    if pid == target.command {
        target.command_role
    } else if target.vm {
        // A VM's app is in its guest: whatever else runs on the host for it is machine.
        Role::Vmm
    } else if Some(pid) == target.monitor {
        Role::Monitor
    } else {
        Role::App
    }
}

fn process(pid: u32, role: Role, in_cgroup: Option<bool>) -> Option<ProcessMemory> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(directory.join("comm")).ok()?.trim().to_owned();
    // One read of the full list for a VMM, so that guest RAM and the whole are of one instant.
    let file = if role == Role::Vmm { "smaps" } else { "smaps_rollup" };
    let text = fs::read_to_string(directory.join(file)).ok()?;
    let guest_ram_bytes = if role == Role::Vmm { smaps::guest_ram_bytes(&text) } else { None };
    Some(ProcessMemory { pid, name, role, pss_bytes: smaps::pss_bytes(&text)?, guest_ram_bytes, in_cgroup })
}

fn members(directory: &Path, depth: usize) -> Vec<u32> {
    let mut pids = cgroup::processes(directory);
    if depth > 0
        && let Ok(entries) = fs::read_dir(directory)
    {
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pids.extend(below.flat_map(|entry| members(&entry.path(), depth - 1)));
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn target(command: u32) -> Target {
        Target {
            command,
            command_role: Role::Command,
            monitor: None,
            init: None,
            vm: false,
            cgroup: None,
            guest: None,
        }
    }

    #[test]
    fn counts_a_command_and_what_it_started() {
        let script = "sleep 30 & echo started; wait";
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("sh runs");
        let mut stdout = child.stdout.take().expect("piped");
        super::super::output::first_line(&mut stdout, u64::MAX).expect("it says so");
        let memory = memory(target(child.id())).expect("it runs");
        let roles: Vec<Role> = memory.processes.iter().map(|p| p.role).collect();
        assert!(roles.contains(&Role::Command) && roles.contains(&Role::App), "{roles:?}");
        assert_eq!(memory.process_bytes, memory.processes.iter().map(|p| p.pss_bytes).sum::<u64>());
        assert_eq!((memory.guest_ram_bytes, memory.cgroup), (None, None));
        for process in &memory.processes {
            let pid =
                i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        }
        child.wait().expect("reaped");
    }

    #[test]
    fn an_instance_that_is_gone_has_no_memory() {
        assert_eq!(memory(target(u32::MAX)), None);
    }
}
