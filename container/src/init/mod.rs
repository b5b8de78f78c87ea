//! What a container's first process does between its clone and its exec, one file a step; and what a further process
//! does that joins a container.
//!
//! It runs in a copy of a single-threaded process, on the far side of clone3: it reads the [`Plan`], makes system
//! calls and reports what goes wrong through the channel. It never returns into the code it was cloned from.

mod capabilities;
mod cgroup_mount;
mod copy_up;
mod devices;
mod filter;
mod home;
mod hooks;
mod join;
mod keyring;
mod masked_paths;
mod mounts;
mod names;
mod namespaces;
mod parent;
mod pivot_root;
mod program;
mod propagation;
mod readonly_paths;
mod rlimits;
mod scheduling;
mod sysctl;
mod target;
mod terminal;
mod user;
mod working_directory;

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cgroup::{Cgroup, OwnWay};
use crate::channel::{InitEnd, Order, Report};
use crate::create::CreateOptions;
use crate::idmap::ReadyTree;
use crate::join::Joined;
use crate::net_devices::NetDevices;
use crate::plan::Plan;
use crate::step::{At, StepError};
use crate::sys;
pub(crate) use join::JoinContext;
pub(crate) use join::run as join;
use program::{Kept, Program};

/// What init is given besides the plan.
pub(crate) struct InitContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) own_way: &'a OwnWay,
    pub(crate) channel: InitEnd,
    /// Namespaces to join that it is not in yet.
    pub(crate) join: &'a [Joined],
    /// Mounts that the creator has made, for they map ids.
    pub(crate) mapped: &'a [ReadyTree],
    pub(crate) net_devices: &'a NetDevices,
    pub(crate) options: CreateOptions,
}

/// Becomes the container's program, or reports why not and ends.
pub(crate) fn run(mut context: InitContext<'_>) -> ! {
    // A panic must not unwind into the frames of the process this is a copy of.
    let outcome = catch_unwind(AssertUnwindSafe(|| match set_up(&context) {
        Ok(program) => start(&mut context, &program),
        Err(report) => report,
    }));
    end(&context.channel, outcome)
}

/// Says why the program was not executed.
fn end(channel: &InitEnd, outcome: std::thread::Result<Report>) -> ! {
    let report = outcome.unwrap_or_else(|_| {
        Report::Failed(StepError::new("init", "the process in the container", "panicked"))
    });
    channel.report(&report);
    sys::exit_now(1)
}

/// Every step up to the point just before exec, where it waits for the order to start. Returns the program.
fn set_up(context: &InitContext<'_>) -> Result<Program, Report> {
    let InitContext { plan, channel, options, .. } = context;
    carve(context).map_err(Report::Failed)?;
    let kept = Kept { inherited: options.inherited, die_with_parent: options.die_with_parent };
    let program = program::prepare(&plan.process, plan.seccomp.as_ref(), channel, kept)?;
    channel.report(&Report::Ready);
    Ok(program)
}

/// What the container sees of the system.
fn carve(context: &InitContext<'_>) -> Result<(), StepError> {
    let InitContext { plan, cgroup, channel, join, mapped, options, .. } = context;
    let stdio = [0, 1, 2].map(|stream: usize| options.stdio[stream].as_fd());
    user::own_pipes(stdio, &plan.process, plan.namespaces.has_own_user());
    let kept = [channel.as_fd()].into_iter().chain(options.start_socket.as_ref().map(AsFd::as_fd));
    let kept = kept.chain(options.console.as_ref().map(AsFd::as_fd));
    let kept = kept.chain(join.iter().map(|joined| joined.file.as_fd()));
    let kept = kept.chain(context.own_way.descriptors());
    let kept = kept.chain(mapped.iter().map(|mapped| mapped.tree.as_fd()));
    parent::leave(stdio, &kept.collect::<Vec<_>>(), options.inherited)?;
    crate::join::enter(join)?;
    namespaces::enter(plan, channel)?;
    if options.new_keyring {
        keyring::join(&plan.identity.id)?;
    }
    sys::forbid_inspection().at("process", "PR_SET_DUMPABLE")?;
    names::set(plan)?;
    sysctl::write(&plan.sysctls)?;
    scheduling::set_for_container(plan.memory_policy.as_ref(), plan.personality)?;
    let root = mounts::make(plan, cgroup, mapped)?;
    if let Some(devices) = &plan.devices {
        devices::make(root.as_fd(), devices, plan.namespaces.has_own_user())?;
    }
    let console = options.console.as_ref().map(AsFd::as_fd);
    if let Some(slave) = terminal::take(root.as_fd(), &plan.process, console)? {
        terminal::bind_console(root.as_fd(), slave.as_fd())?;
    }
    working_directory::create(root.as_fd(), plan);
    mounts::finish(root.as_fd(), plan)?;
    let has_hooks = plan.hooks.are_due_before_pivot();
    if has_hooks {
        // Hooks look for the process in its cgroup.
        wait_for_creator(context)?;
        hooks::before_pivot(plan, channel)?;
    }
    pivot_root::enter(root, plan, channel, options.pivot)?;
    masked_paths::mask(&plan.masked_paths)?;
    readonly_paths::protect(&plan.readonly_paths)?;
    propagation::set_last(plan.rootfs_propagation)?;
    if !has_hooks {
        // As late as can be: what was used until here is not charged to the container.
        wait_for_creator(context)?;
    }
    namespaces::own_cgroup(plan)
}

/// Waits until it may go into its cgroups and has its network devices.
fn wait_for_creator(context: &InitContext<'_>) -> Result<(), StepError> {
    namespaces::wait_for_cgroup(&context.channel)?;
    context.own_way.go().map_err(|error| StepError::new("cgroup", "this process", error))?;
    context.net_devices.configure()
}

/// Waits for the order, then executes the program; what it returns is why it could not.
fn start(context: &mut InitContext<'_>, program: &Program) -> Report {
    let ordered = match &context.options.start_socket {
        None => context.channel.wait_for(Order::Start),
        Some(socket) => {
            let detached = context.channel.wait_for(Order::Detach);
            detached.and_then(|()| context.channel.wait_for_starter(socket.as_fd()))
        }
    };
    if ordered.is_err() {
        sys::exit_now(1);
    }
    if let Err(error) = hooks::before_program(context.plan) {
        return Report::Failed(error);
    }
    program::exec(program, &context.plan.process, &context.channel)
}
