//! What a further process does that joins a container, in place of carving it.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{chroot, fchdir};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::program::{self, Kept, Program};
use super::{end, keyring, namespaces, parent, scheduling, terminal, user};
use crate::cgroup::OwnWay;
use crate::channel::{InitEnd, Order, Report};
use crate::plan::ExecPlan;
use crate::step::{At, StepError};
use crate::sys;

/// What it is given besides the plan.
pub(crate) struct JoinContext<'a> {
    pub(crate) plan: &'a ExecPlan,
    /// The container's first process, whose namespaces are the container's.
    pub(crate) init: BorrowedFd<'a>,
    /// Those that it is not in yet.
    pub(crate) namespaces: ThreadNameSpaceType,
    /// The container's root directory, where it is not its mount namespace's.
    pub(crate) root: Option<BorrowedFd<'a>>,
    /// Into its v1 cgroups.
    pub(crate) own_way: &'a OwnWay,
    pub(crate) channel: InitEnd,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Where the program's terminal is sent.
    pub(crate) console: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 up the program gets.
    pub(crate) inherited: u32,
}

/// Becomes the program, or reports why not and ends.
pub(crate) fn run(context: &JoinContext<'_>) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| match set_up(context) {
        Ok(program) => program::exec(&program, &context.plan.process, &context.channel),
        Err(report) => report,
    }));
    end(&context.channel, outcome)
}

fn set_up(context: &JoinContext<'_>) -> Result<Program, Report> {
    let JoinContext { plan, channel, inherited, .. } = context;
    enter(context).map_err(Report::Failed)?;
    let kept = Kept { inherited: *inherited, die_with_parent: false };
    program::prepare(&plan.process, plan.seccomp.as_ref(), channel, kept)
}

/// Enters the container: all its namespaces at once, its keyring, its cgroups.
fn enter(context: &JoinContext<'_>) -> Result<(), StepError> {
    let JoinContext { plan, channel, stdio, own_way, .. } = context;
    user::own_pipes(*stdio, &plan.process, plan.in_user_namespace());
    // Before there is anything of the container to be misled by.
    let kept = [channel.as_fd(), context.init].into_iter().chain(context.root).chain(context.console);
    let kept = kept.chain(own_way.descriptors());
    parent::leave(*stdio, &kept.collect::<Vec<_>>(), context.inherited)?;
    // The root directory is the mount namespace's from here on.
    move_into_thread_name_spaces(context.init, context.namespaces).at("namespaces", "setns")?;
    if let Some(root) = context.root {
        fchdir(root).at("chroot", "the container's root")?;
        chroot(".").at("chroot", "the container's root")?;
    }
    if plan.in_user_namespace() {
        namespaces::become_root()?;
    }
    // Changes of credentials allow it again.
    sys::forbid_inspection().at("process", "PR_SET_DUMPABLE")?;
    keyring::join(&plan.identity.id)?;
    scheduling::set_for_container(plan.memory_policy.as_ref(), plan.personality)?;
    channel.wait_for(Order::Joined).at("cgroup", "waiting to go into it")?;
    own_way.go().map_err(|error| StepError::new("cgroup", "this process", error))?;
    scheduling::set_last_affinity(&plan.process)?;
    if context.console.is_some() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open("/", flags, Mode::empty()).at("terminal", "/")?;
        terminal::take(root.as_fd(), &plan.process, context.console)?;
    }
    Ok(())
}
