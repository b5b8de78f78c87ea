//! The last steps: the rights of the container's program, and its execution.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;

use super::{filter, home, rlimits, scheduling, user, working_directory};
use crate::channel::{InitEnd, Report};
use crate::plan::ProcessPlan;
use crate::seccomp::Filter;
use crate::step::{At, StepError};
use crate::sys::{self, CStringArray, LastExec};

/// The program, found, and what executes it.
pub(super) struct Program {
    path: CString,
    /// The environment, if it is not the plan's.
    env: Option<CStringArray>,
    last: LastExec,
    /// Open until the execution: without it, calls that are asked about would fail.
    _listener: Option<OwnedFd>,
}

/// What the program keeps of whoever starts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// How many descriptors from 3 up.
    pub(super) inherited: u32,
    /// Its life: the program is killed when the thread that started it ends.
    pub(super) die_with_parent: bool,
}

/// Takes on the program's limits, filter, user and directory, and finds the program. Warnings go through the channel.
pub(super) fn prepare(
    process: &ProcessPlan,
    seccomp: Option<&Filter>,
    channel: &InitEnd,
    kept: Kept,
) -> Result<Program, Report> {
    let env = home::environment(process);
    let filters = Filters::new(seccomp, process.no_new_privileges);
    let (last, listener) = take_rights(process, filters, channel, kept).map_err(Report::Failed)?;
    let path = find(process).map_err(|errno| Report::NotExecuted(errno.raw_os_error()))?;
    let late =
        filters.late.map(|filter| filter::load(filter, channel)).transpose().map_err(Report::Failed)?;
    Ok(Program { path, env, last, _listener: listener.or(late.flatten()) })
}

/// Executes the program; returns why that could not be.
pub(super) fn exec(program: &Program, process: &ProcessPlan, channel: &InitEnd) -> Report {
    let env = program.env.as_ref().unwrap_or(&process.env);
    let errno = program.last.run(channel.as_fd(), &program.path, &process.args, env);
    Report::NotExecuted(errno.raw_os_error())
}

/// When the filter is loaded: one of these is it.
#[derive(Clone, Copy, Debug, Default)]
struct Filters<'a> {
    /// While there is CAP_SYS_ADMIN, which it needs without no_new_privs.
    early: Option<&'a Filter>,
    /// Once all is done but the execution, for somebody must take its listener.
    late: Option<&'a Filter>,
    /// Between the two executions.
    last: Option<&'a Filter>,
}

impl<'a> Filters<'a> {
    fn new(filter: Option<&'a Filter>, no_new_privileges: bool) -> Self {
        let asks = filter.is_some_and(|filter| filter.listener.is_some());
        match (no_new_privileges, asks) {
            (false, _) => Self { early: filter, ..Self::default() },
            (true, true) => Self { late: filter, ..Self::default() },
            (true, false) => Self { last: filter, ..Self::default() },
        }
    }
}

fn take_rights(
    process: &ProcessPlan,
    filters: Filters<'_>,
    channel: &InitEnd,
    kept: Kept,
) -> Result<(LastExec, Option<OwnedFd>), StepError> {
    let limited = rlimits::set(&process.rlimits)?;
    let unscheduled = scheduling::set_for_process(process)?;
    let last = filters.last.map(|filter| (filter.program.as_slice(), filter.flags));
    let last = LastExec::new(channel.as_fd(), last).at("exec", "memfd_create")?;
    let listener = filters.early.map(|filter| filter::load(filter, channel)).transpose()?;
    let lacking = user::become_user(process)?;
    // The change of user allowed it again.
    sys::forbid_inspection().at("process", "PR_SET_DUMPABLE")?;
    if kept.die_with_parent {
        // After the change of user, which clears it. A creator that died before this has sent no order to start.
        set_parent_process_death_signal(Some(Signal::KILL)).at("parent death", "SIGKILL")?;
    }
    if process.no_new_privileges {
        set_no_new_privs(true).at("no new privileges", "prctl")?;
    }
    working_directory::enter(&process.cwd)?;
    sys::mark_all_cloexec(kept.inherited).at("descriptors", "close on exec")?;
    for warning in [limited, unscheduled, lacking].into_iter().flatten() {
        channel.report(&Report::Warning(warning));
    }
    Ok((last, listener.flatten()))
}

/// The first of the candidates that can be executed; else why none can, in the way of execvp(3).
fn find(process: &ProcessPlan) -> Result<CString, Errno> {
    let mut failure = Errno::NOENT;
    for path in &process.programs {
        match executable(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // There may be another one that may be executed.
            Err(Errno::ACCESS) => failure = Errno::ACCESS,
            // What cannot be found out beforehand is told by the execution itself.
            Ok(()) | Err(_) => return Ok(path.clone()),
        }
    }
    Err(failure)
}

fn executable(path: &CString) -> Result<(), Errno> {
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    let found = statat(CWD, path, AtFlags::empty())?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Errno::ACCESS),
    }
}
