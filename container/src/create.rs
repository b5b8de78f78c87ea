//! Makes a container: everything up to the point just before its program is executed.
//!
//! ```text
//! refuse_threads → plan → cgroup → clone3 ─┬─▶ init::run: mounts, root, limits, user …
//!                                                        └─▶ guide: id maps, join cgroup, wait for Ready
//! ```
//!
//! The process is cloned once, with all its namespaces, and not executed again: see
//! `docs/decisions/0002-no-re-exec.md`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, CgroupError, Hierarchy, OwnWay};
use crate::channel::{self, CreatorEnd, Order, Report};
use crate::child::Child;
use crate::console::ConsoleError;
use crate::container::{Container, StartError};
use crate::hooks::{self, HookError};
use crate::idmap;
use crate::init::{self, InitContext};
use crate::join;
use crate::listener::{self, Asking, ListenerError};
use crate::map_ids::{MapError, map_ids};
use crate::net_devices::NetDevices;
use crate::plan::{Plan, PlanError};
use crate::step::StepError;
use crate::sys::{self, CloneRequest, Cloned};

/// What a container gets besides its bundle.
#[derive(Debug)]
pub struct CreateOptions {
    /// Standard input, output and error of the container's program.
    pub stdio: [OwnedFd; 3],
    /// The container's own cgroup, absolute, like `/carve/web`. It wins over `linux.cgroupsPath`.
    pub cgroup_path: PathBuf,
    /// The host's cgroup trees, if the caller knows them already; else they are looked up.
    pub hierarchy: Option<Hierarchy>,
    /// A listening socket (`SOCK_SEQPACKET`), if the container is to outlive its creator: see
    /// [`Container::detach`].
    pub start_socket: Option<OwnedFd>,
    /// Whether the container is killed when the thread that creates it ends, however it ends.
    pub die_with_parent: bool,
    /// Where the program's terminal is sent, if it is to have one: a connected socket.
    pub console: Option<OwnedFd>,
    /// How many of this process's descriptors, from 3 up, the program gets as they are.
    pub inherited: u32,
    /// Whether the program gets a session keyring of its own, and not its creator's.
    pub new_keyring: bool,
    /// Whether the root is exchanged by pivot_root(2), which takes the host's away; else it is only moved over the
    /// host's, for hosts that run from their initial root filesystem.
    pub pivot: bool,
}

impl CreateOptions {
    /// What a container gets that lives as long as its creator: killed with it, with a session keyring of its own and its
    /// root by pivot_root(2), and nothing further.
    pub fn new(stdio: [OwnedFd; 3], cgroup_path: PathBuf) -> Self {
        Self {
            stdio,
            cgroup_path,
            hierarchy: None,
            start_socket: None,
            die_with_parent: true,
            console: None,
            inherited: 0,
            new_keyring: true,
            pivot: true,
        }
    }
}

/// A container that could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The caller has several threads, whose locks a clone would copy in whatever state they are.
    #[error(
        "a container can only be created by a single-threaded process, and this one has {threads} threads; create \
         it before starting any, or in a process of its own"
    )]
    Threads {
        /// How many the caller has.
        threads: usize,
    },
    /// The configuration cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nobody takes the program's terminal.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The cgroup cannot be made or joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process with its namespaces cannot be made.
    #[error(
        "cannot clone a process into new namespaces: {0}; as a user other than root, a user namespace is needed"
    )]
    Clone(io::Error),
    /// The ids of its user namespace cannot be mapped.
    #[error(transparent)]
    MapIds(#[from] MapError),
    /// A step inside the container failed.
    #[error("cannot set up the container: {0}")]
    Step(#[from] StepError),
    /// There is no program to execute.
    #[error(transparent)]
    Program(StartError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The agent of a filter that asks cannot be reached.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The init process ended without a word.
    #[error(
        "the container's init process died during set-up; it may have been killed, for lack of memory too"
    )]
    InitDied,
    /// A file of the host that the set-up needs cannot be read or written.
    #[error("{path}: {source}")]
    Host {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// Creates the container `id` from the bundle: its init process has everything set up and waits just
/// before executing the program, for [`Container::start`].
///
/// # Errors
/// See [`CreateError`]; whatever was made by then is removed again.
pub fn create(bundle: &Bundle, id: &str, options: CreateOptions) -> Result<Container, CreateError> {
    refuse_threads()?;
    let plan = Plan::new(bundle, id)?;
    match (plan.process.terminal, &options.console) {
        (Some(_), None) => return Err(ConsoleError::Missing.into()),
        (None, Some(_)) => return Err(ConsoleError::Unused.into()),
        _ => {}
    }
    let net_devices = NetDevices::find(&plan)?;
    let cgroup = make_cgroup(bundle, &options)?;
    let (pid, pidfd, channel) = match clone_init(&plan, &cgroup, &net_devices, options) {
        Ok(cloned) => cloned,
        Err(error) => {
            remove_cgroup(&cgroup);
            return Err(error);
        }
    };
    let mut init = Child::new(pid, pidfd);
    match guide(&plan, &cgroup, &net_devices, (pid, init.pidfd()), &channel) {
        Ok(warnings) => Ok(Container::new(init, channel, cgroup, plan.process.name(), warnings)),
        Err(error) => {
            init.kill_and_reap();
            // A process that could not be guided may have ended for a reason that it still tells.
            let told = channel.last_words(init.pidfd(), |errno| not_executed(&plan, errno));
            remove_cgroup(&cgroup);
            Err(told.unwrap_or(error))
        }
    }
}

/// Only the calling thread exists in the clone, and locks that others held are held for ever.
pub(crate) fn refuse_threads() -> Result<(), CreateError> {
    let path = Path::new("/proc/self/task");
    let links = fs::metadata(path).map_err(|source| host_error(path, source))?.nlink();
    // As of any directory: two, and one for each that is in it.
    match usize::try_from(links.saturating_sub(2)) {
        Ok(1) => Ok(()),
        Ok(threads @ 2..) => Err(CreateError::Threads { threads }),
        _ => Err(host_error(path, io::Error::other("does not count this process's threads"))),
    }
}

fn make_cgroup(bundle: &Bundle, options: &CreateOptions) -> Result<Cgroup, CreateError> {
    let hierarchy = match &options.hierarchy {
        Some(known) => known.clone(),
        None => Hierarchy::detect(Path::new("/"))?,
    };
    let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    Ok(Cgroup::create(&hierarchy, &options.cgroup_path, &resources.unwrap_or_default())?)
}

/// The one clone. The child does not return from here.
fn clone_init(
    plan: &Plan,
    cgroup: &Cgroup,
    net_devices: &NetDevices,
    options: CreateOptions,
) -> Result<(Pid, OwnedFd, CreatorEnd), CreateError> {
    let (creator_end, init_end) = channel::pair().map_err(|errno| CreateError::Clone(errno.into()))?;
    let v2_dir =
        cgroup.v2_dir().map(|dir| File::open(dir).map_err(|source| host_error(dir, source))).transpose()?;
    let own_way = OwnWay::into(cgroup)?;
    let mut joined = join::open(&plan.namespaces)?;
    let mapped = idmap::prepare(plan, &joined)?;
    let cgroup_dir = v2_dir.as_ref().map(AsFd::as_fd);
    let request =
        CloneRequest { namespaces: plan.namespaces.clone_flags, cgroup: cgroup_dir, sibling: false };
    let cloned = if join::needs_go_between(&plan.namespaces) {
        let cloned = join::clone_inside(&joined, request)?;
        joined.clear();
        cloned
    } else {
        sys::clone3(request).map_err(|errno| CreateError::Clone(errno.into()))?
    };
    match cloned {
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd, creator_end)),
        Cloned::Child => {
            let (join, mapped, own_way) = (&joined, &mapped, &own_way);
            let channel = init_end;
            init::run(InitContext { plan, cgroup, own_way, channel, join, mapped, net_devices, options })
        }
    }
}

/// Does for the init process what only its parent can, until it is ready. Returns its warnings.
fn guide(
    plan: &Plan,
    cgroup: &Cgroup,
    net_devices: &NetDevices,
    (pid, pidfd): (Pid, BorrowedFd<'_>),
    channel: &CreatorEnd,
) -> Result<Vec<String>, CreateError> {
    let init = pid.as_raw_nonzero().get();
    let mut warnings: Vec<String> = cgroup.warning().map(str::to_owned).into_iter().collect();
    warnings.extend(plan.warnings.iter().cloned());
    if let Some(maps) = &plan.namespaces.id_maps {
        map_ids(pid, maps)?;
        order(channel, Order::Mapped)?;
    }
    if let Some(adjustment) = plan.process.oom_score_adj {
        let path = format!("/proc/{init}/oom_score_adj");
        if let Err(error) = fs::write(&path, adjustment.to_string()) {
            // Lowering it needs a capability that not every root has.
            warnings.push(format!("process.oomScoreAdj is left as it is: {path}: {error}"));
        }
    }
    net_devices.move_to(init)?;
    order(channel, Order::Joined)?;
    loop {
        match channel.report().map_err(|source| host_error(Path::new("(channel)"), source))? {
            Some(Report::Warning(warning)) => warnings.push(warning),
            Some(Report::HooksDue) => {
                let state = plan.identity.state("creating", init);
                hooks::run_all(&plan.hooks.create_runtime, &state)?;
                order(channel, Order::Hooked)?;
            }
            Some(Report::Ready) => break,
            Some(Report::Listener(number)) => {
                let state = plan.identity.state("creating", init);
                let agent = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
                let asking = Asking { pid: init, pidfd, number };
                listener::hand_over(asking, agent, &plan.identity.oci_version, &state)?;
                order(channel, Order::Listening)?;
            }
            Some(Report::Cloned(_)) => {}
            Some(Report::Failed(error)) => return Err(error.into()),
            Some(Report::NotExecuted(errno)) => return Err(not_executed(plan, errno)),
            None => return Err(CreateError::InitDied),
        }
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(warnings)
}

fn order(channel: &CreatorEnd, order: Order) -> Result<(), CreateError> {
    channel.order(order).map_err(|_gone| CreateError::InitDied)
}

fn not_executed(plan: &Plan, errno: i32) -> CreateError {
    CreateError::Program(StartError::not_executed(&plan.process.name(), errno))
}

fn remove_cgroup(cgroup: &Cgroup) {
    if let Err(error) = cgroup.remove() {
        tracing::warn!("{error}");
    }
}

fn host_error(path: &Path, source: io::Error) -> CreateError {
    CreateError::Host { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        let waiting = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| waiting.wait());
            let refused = refuse_threads();
            waiting.wait();
            assert!(matches!(refused, Err(CreateError::Threads { threads: 2.. })));
        });
    }
}
