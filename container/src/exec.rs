//! Makes a further process in a container that exists.
//!
//! ```text
//! plan → setns(pid) → clone3 into the cgroup ─┬─▶ init::join: other namespaces, v1 cgroups, limits, user … exec
//!                                             └─▶ guide: wait for the execution
//! ```
//!
//! The pid namespace is joined by the parent, because only children are affected, and the others by the child. So there
//! is one clone, and the parent stays where it was: it gives the child's id as the host has it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::{Cgroup, CgroupError, OwnWay};
use crate::channel::{self, CreatorEnd, Order, Report};
use crate::child::Child;
use crate::container::StartError;
use crate::create::{CreateError, refuse_threads};
use crate::init::{self, JoinContext};
use crate::listener::{self, Asking, ListenerError};
use crate::plan::ExecPlan;
use crate::step::{At, StepError};
use crate::sys::{self, CloneRequest, Cloned};

/// The container to be joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// Its first process.
    pub(crate) pid: i32,
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) cgroup: &'a Cgroup,
}

/// What the process gets from whoever starts it.
#[derive(Debug)]
pub(crate) struct ExecOptions {
    pub(crate) stdio: [OwnedFd; 3],
    /// Where its terminal is sent, if it is to have one.
    pub(crate) console: Option<OwnedFd>,
    /// How many descriptors from 3 up.
    pub(crate) inherited: u32,
}

/// A process that could not be made in a container. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The caller has several threads.
    #[error(transparent)]
    Threads(CreateError),
    /// This process cannot be made unreadable to the container, or the container's process ids not be joined.
    #[error(
        "cannot join the container's namespaces: {0}; it takes root, or the user who created the container"
    )]
    Join(io::Error),
    /// There can be no process.
    #[error("cannot clone a process into the container: {0}")]
    Clone(io::Error),
    /// A cgroup cannot be joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A step inside the container failed.
    #[error("cannot set up the process in the container: {0}")]
    Step(#[from] StepError),
    /// There is no program to execute.
    #[error(transparent)]
    Program(StartError),
    /// The agent of a filter that asks cannot be reached.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The process ended without a word.
    #[error(
        "the process died before its program was executed; it may have been killed, for lack of memory too"
    )]
    Died,
    /// A file of the host that it takes cannot be used.
    #[error("{path}: {source}")]
    Host {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// Executes the plan's program in the container. Returns once it is executed.
///
/// # Errors
/// See [`ExecError`]. This process's later children may be the container's even then.
pub(crate) fn exec(plan: &ExecPlan, target: Target<'_>, options: ExecOptions) -> Result<Child, ExecError> {
    refuse_threads().map_err(ExecError::Threads)?;
    if !plan.process.exec_affinity.first.is_empty() {
        sys::set_affinity(&plan.process.exec_affinity.first)
            .at("scheduling", "process.execCPUAffinity.initial")?;
    }
    let (channel, pid, pidfd) = clone_process(plan, target, &options)?;
    // The child's are the only copies from here on: their end is its end.
    drop(options);
    let mut child = Child::new(pid, pidfd);
    match guide(plan, target, &child, &channel) {
        Ok(()) => Ok(child),
        Err(error) => {
            child.kill_and_reap();
            // A process that could not be guided may have ended for a reason that it still tells.
            let told = channel.last_words(child.pidfd(), |errno| not_executed(plan, errno));
            Err(told.unwrap_or(error))
        }
    }
}

/// The one clone. The child does not return from here.
fn clone_process(
    plan: &ExecPlan,
    target: Target<'_>,
    options: &ExecOptions,
) -> Result<(CreatorEnd, Pid, OwnedFd), ExecError> {
    // All of the host's that is needed, before there is any right to lose.
    let cgroup = open_v2(target.cgroup.v2_dir())?;
    let fallback = || open_v2(target.cgroup.v2_dir_of(target.pid).as_deref());
    let own_way = OwnWay::into(target.cgroup)?;
    let (creator_end, child_end) = channel::pair().map_err(|errno| ExecError::Clone(errno.into()))?;
    let (by_parent, by_child) = divide(plan, target.pid)?;
    let root = plan.chrooted.then(|| open_root(target.pid)).transpose()?;
    // A clone is as unreadable as what it is a copy of.
    sys::forbid_inspection().map_err(|errno| ExecError::Join(errno.into()))?;
    if !by_parent.is_empty() {
        let joined = move_into_thread_name_spaces(target.init, by_parent);
        joined.map_err(|errno| ExecError::Join(errno.into()))?;
    }
    let into = |cgroup: Option<&File>| {
        let cgroup = cgroup.map(AsFd::as_fd);
        sys::clone3(CloneRequest { cgroup, ..CloneRequest::default() })
    };
    let mut cloned = into(cgroup.as_ref());
    if matches!(cloned, Err(Errno::BUSY | Errno::OPNOTSUPP)) {
        // The container has groups of its own below, so no process may be in its root (cgroups(7)).
        cloned = into(fallback()?.as_ref());
    }
    if matches!(cloned, Err(Errno::ACCESS)) {
        // The caller may use the container's group, and not move what is in their own there: another session, for instance.
        cloned = into(None);
        if let Ok(Cloned::Parent { .. }) = cloned {
            let path = target.cgroup.path().display();
            tracing::warn!(
                "the process is not in the container's cgroup {path}: from your own group you may not move one there"
            );
        }
    }
    match cloned.map_err(|errno| ExecError::Clone(errno.into()))? {
        Cloned::Parent { pid, pidfd } => Ok((creator_end, pid, pidfd)),
        Cloned::Child => {
            let stdio = [0, 1, 2].map(|stream: usize| options.stdio[stream].as_fd());
            init::join(&JoinContext {
                plan,
                init: target.init,
                namespaces: by_child,
                root: root.as_ref().map(AsFd::as_fd),
                own_way: &own_way,
                channel: child_end,
                stdio,
                console: options.console.as_ref().map(AsFd::as_fd),
                inherited: options.inherited,
            })
        }
    }
}

/// Which namespaces the parent joins, and which the child.
fn divide(plan: &ExecPlan, init: i32) -> Result<(ThreadNameSpaceType, ThreadNameSpaceType), ExecError> {
    // All CLONE_NEW… bits are among the lower 32.
    let mut all = ThreadNameSpaceType::from_bits_retain(u32::try_from(plan.namespaces).unwrap_or(0));
    // The only one that cannot be joined by who is in it.
    if plan.in_user_namespace() && user_namespace("self")? == user_namespace(&init.to_string())? {
        all -= ThreadNameSpaceType::USER;
    }
    let mut by_parent = ThreadNameSpaceType::PROCESS_ID;
    if !geteuid().is_root() {
        // The right to join the others is the user namespace's.
        by_parent |= ThreadNameSpaceType::USER;
    }
    Ok((all & by_parent, all - by_parent))
}

/// What tells a process's user namespace from others.
fn user_namespace(process: &str) -> Result<(u64, u64), ExecError> {
    let path = PathBuf::from(format!("/proc/{process}/ns/user"));
    match fs::metadata(&path) {
        Ok(namespace) => Ok((namespace.dev(), namespace.ino())),
        Err(source) => Err(ExecError::Host { path, source }),
    }
}

/// The root directory of a process.
fn open_root(pid: i32) -> Result<OwnedFd, ExecError> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|errno| ExecError::Host { path, source: errno.into() })
}

fn open_v2(dir: Option<&Path>) -> Result<Option<File>, ExecError> {
    dir.map(|dir| File::open(dir).map_err(|source| ExecError::Host { path: dir.to_owned(), source }))
        .transpose()
}

/// Does for the child what only its parent can, and waits for the execution.
fn guide(plan: &ExecPlan, target: Target<'_>, child: &Child, channel: &CreatorEnd) -> Result<(), ExecError> {
    let pid = child.pid();
    if let Some(adjustment) = plan.process.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        if let Err(error) = fs::write(&path, adjustment.to_string()) {
            // Lowering it needs a capability that not every root has; the container's creation has said so.
            tracing::debug!("{path}: {error}");
        }
    }
    let ordered = channel.order(Order::Joined);
    loop {
        match channel.report_of(child.pidfd()) {
            Ok(Some(Report::Warning(warning))) => tracing::debug!("{warning}"),
            Ok(Some(Report::Listener(number))) => {
                let agent = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
                let asking = Asking { pid, pidfd: child.pidfd(), number };
                let state = plan.identity.state("running", target.pid);
                listener::hand_over(asking, agent, &plan.identity.oci_version, &state)?;
                channel.order(Order::Listening).map_err(|_gone| ExecError::Died)?;
            }
            Ok(Some(Report::Failed(error))) => return Err(error.into()),
            Ok(Some(Report::NotExecuted(errno))) => return Err(not_executed(plan, errno)),
            // The socket is close-on-exec.
            Ok(None) if ordered.is_ok() => return Ok(()),
            Ok(_) | Err(_) => return Err(ExecError::Died),
        }
    }
}

fn not_executed(plan: &ExecPlan, errno: i32) -> ExecError {
    ExecError::Program(StartError::not_executed(&plan.process.name(), errno))
}
