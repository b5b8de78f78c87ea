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

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::Mode;
use rustix::process::{Signal, set_parent_process_death_signal, setsid, umask};
use rustix::thread::set_no_new_privs;

use crate::cgroup::Cgroup;
use crate::channel::{InitEnd, Order, Report};
use crate::plan::Plan;
use crate::step::{At, StepError};
use crate::sys::{self, LastExec};
use exec::Program;

/// What init is given besides the plan.
pub(crate) struct InitContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) channel: InitEnd,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Where others connect to have the program started, once the creator has detached.
    pub(crate) start_socket: Option<OwnedFd>,
    /// Be killed when the creator dies.
    pub(crate) die_with_parent: bool,
}

/// Becomes the container's program, or reports why not and ends.
pub(crate) fn run(mut context: InitContext<'_>) -> ! {
    // A panic must not unwind into the frames of the process this is a copy of.
    let outcome = catch_unwind(AssertUnwindSafe(|| match set_up(&context) {
        Ok(program) => start(&mut context, &program),
        Err(report) => report,
    }));
    let report = outcome.unwrap_or_else(|_| {
        Report::Failed(StepError::new("init", "the container's init process", "panicked"))
    });
    context.channel.report(&report);
    sys::exit_now(1)
}

/// Every step up to the point just before exec, where it waits for the order to start. Returns the program.
fn set_up(context: &InitContext<'_>) -> Result<Program, Report> {
    let last = set_up_all_but_the_program(context).map_err(Report::Failed)?;
    let program = exec::find(&context.plan.process, last)?;
    context.channel.report(&Report::Ready);
    Ok(program)
}

fn set_up_all_but_the_program(context: &InitContext<'_>) -> Result<LastExec, StepError> {
    let InitContext { plan, cgroup, channel, .. } = context;
    leave_the_parent(context)?;
    namespaces::enter(plan, channel)?;
    sys::forbid_inspection().at("process", "PR_SET_DUMPABLE")?;
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
    let last = exec::prepare(plan, channel).at("exec", "memfd_create")?;
    if !plan.process.no_new_privileges {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        load_seccomp(plan)?;
    }
    let lacking = user::become_user(&plan.process)?;
    // The change of user allowed it again.
    sys::forbid_inspection().at("process", "PR_SET_DUMPABLE")?;
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
    Ok(last)
}

/// Its own streams, no other descriptors, a session of its own, signals as they should be.
fn leave_the_parent(context: &InitContext<'_>) -> Result<(), StepError> {
    user::own_pipes(context.stdio, context.plan);
    sys::replace_stdio(context.stdio).at("standard streams", "dup")?;
    // Closed now and not at exec, so that no path through /proc/self/fd leads out of the container meanwhile.
    let kept = [Some(context.channel.as_fd()), context.start_socket.as_ref().map(AsFd::as_fd)];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    sys::close_all_except(&kept).at("descriptors", "close")?;
    sys::reset_signals();
    setsid().at("session", "setsid")?;
    umask(Mode::empty());
    Ok(())
}

/// Waits for the order, then executes the program; what it returns is why it could not.
fn start(context: &mut InitContext<'_>, program: &Program) -> Report {
    let ordered = match &context.start_socket {
        None => context.channel.wait_for(Order::Start),
        Some(socket) => {
            let detached = context.channel.wait_for(Order::Detach);
            detached.and_then(|()| context.channel.wait_for_starter(socket.as_fd()))
        }
    };
    if ordered.is_err() {
        sys::exit_now(1);
    }
    exec::exec(program, &context.plan.process, &context.channel)
}

fn load_seccomp(plan: &Plan) -> Result<(), StepError> {
    match &plan.seccomp {
        Some(filter) => sys::load_filter(&filter.program, filter.flags).at("seccomp", "linux.seccomp"),
        None => Ok(()),
    }
}
