//! What a container's first process does between its clone and its exec, one file a step.
//!
//! It runs in a copy of a single-threaded process, on the far side of clone3: it reads the [`Plan`], makes system
//! calls and reports what goes wrong through the channel. It never returns into the code it was cloned from.

mod capabilities;
mod cgroup_mount;
mod devices;
mod exec;
mod masked_paths;
mod mounts;
mod names;
mod namespaces;
mod pivot_root;
mod readonly_paths;
mod rlimits;
mod sysctl;
mod target;
mod user;
mod working_directory;

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::Mode;
use rustix::process::{Signal, set_parent_process_death_signal, setsid, umask};
use rustix::thread::set_no_new_privs;

use crate::cgroup::Cgroup;
use crate::channel::{InitEnd, Order, Report};
use crate::plan::Plan;
use crate::step::{At, StepError};
use crate::sys;

/// What init is given besides the plan.
pub(crate) struct InitContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) channel: &'a InitEnd,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Be killed when the creator dies.
    pub(crate) die_with_parent: bool,
}

/// Becomes the container's program, or reports why not and ends.
pub(crate) fn run(context: &InitContext<'_>) -> ! {
    // A panic must not unwind into the frames of the process this is a copy of.
    let outcome = catch_unwind(AssertUnwindSafe(|| set_up(context).map(|()| start(context))));
    let report = match outcome {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => Report::Failed(error),
        Err(_) => Report::Failed(StepError::new("init", "the container's init process", "panicked")),
    };
    context.channel.report(&report);
    sys::exit_now(1)
}

/// Every step up to the point just before exec, where it waits for the order to start.
fn set_up(context: &InitContext<'_>) -> Result<(), StepError> {
    let InitContext { plan, cgroup, channel, .. } = *context;
    leave_the_parent(context)?;
    namespaces::enter(plan, channel)?;
    names::set(plan)?;
    sysctl::write(&plan.sysctls)?;
    let root = mounts::make(plan, cgroup)?;
    if let Some(devices) = &plan.devices {
        devices::make(root.as_fd(), devices, plan.namespaces.new_user())?;
    }
    working_directory::create(root.as_fd(), plan);
    mounts::finish(root.as_fd(), plan)?;
    pivot_root::pivot(root)?;
    masked_paths::mask(&plan.masked_paths)?;
    readonly_paths::protect(&plan.readonly_paths)?;
    let limited = rlimits::set(&plan.process.rlimits)?;
    namespaces::own_cgroup(plan, channel)?;
    if !plan.process.no_new_privileges {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        load_seccomp(plan)?;
    }
    let lacking = user::become_user(&plan.process)?;
    if context.die_with_parent {
        // After the change of user, which clears it. A creator that died before this has sent no order to start.
        set_parent_process_death_signal(Some(Signal::KILL)).at("parent death", "SIGKILL")?;
    }
    if plan.process.no_new_privileges {
        set_no_new_privs(true).at("no new privileges", "prctl")?;
    }
    working_directory::enter(&plan.process.cwd)?;
    sys::mark_all_cloexec().at("descriptors", "close on exec")?;
    for warning in [limited, lacking].into_iter().flatten() {
        channel.report(&Report::Warning(warning));
    }
    channel.report(&Report::Ready);
    Ok(())
}

/// Its own streams, no other descriptors, a session of its own, signals as they should be.
fn leave_the_parent(context: &InitContext<'_>) -> Result<(), StepError> {
    user::own_pipes(context.stdio, context.plan);
    sys::replace_stdio(context.stdio).at("standard streams", "dup")?;
    // Closed now and not at exec, so that no path through /proc/self/fd leads out of the container meanwhile.
    sys::close_all_except(context.channel.as_fd()).at("descriptors", "close")?;
    sys::reset_signals();
    setsid().at("session", "setsid")?;
    umask(Mode::empty());
    Ok(())
}

/// Waits for the order, then executes the program; what it returns is why it could not.
fn start(context: &InitContext<'_>) -> Report {
    let InitContext { plan, channel, .. } = *context;
    if channel.wait_for(Order::Start).is_err() {
        sys::exit_now(1);
    }
    if plan.process.no_new_privileges
        && let Err(error) = load_seccomp(plan)
    {
        return Report::Failed(error);
    }
    exec::exec(&plan.process)
}

fn load_seccomp(plan: &Plan) -> Result<(), StepError> {
    match &plan.seccomp {
        Some(filter) => sys::load_filter(&filter.program, filter.flags).at("seccomp", "linux.seccomp"),
        None => Ok(()),
    }
}
