//! `exec`: a further process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::error::RuntimeError;
use super::exec_process::ExecProcess;
use super::foreground::Foreground;
use super::inherited::Inherited;
use super::pid_file;
use super::record::Record;
use super::relay;
use super::state::Status;
use super::store::Entry;
use crate::bundle::{Bundle, refuse_unsupported_process};
use crate::child::Child;
use crate::console::Console;
use crate::exec::{self, ExecOptions, Target};
use crate::plan::{ExecPlan, PlanError};
use crate::sys;

/// What is executed in a container, and how.
#[derive(Debug)]
pub struct Exec {
    /// The process.
    pub process: ExecProcess,
    /// Its standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// A file to write its id to.
    pub pid_file: Option<PathBuf>,
    /// Whether it is to have a terminal, whatever the process's description says.
    pub terminal: bool,
    /// A socket to send that terminal to; without one, it is joined to this process's own.
    pub console_socket: Option<PathBuf>,
    /// Whether to leave once its program is executed.
    pub detach: bool,
    /// Descriptors of this process that it gets.
    pub inherited: Inherited,
    /// Whether to make it in a container that is paused, where it waits with the others.
    pub ignore_paused: bool,
}

/// Executes it, and waits for its end unless told otherwise; returns its exit status.
pub(super) fn exec(entry: &Entry, options: Exec) -> Result<i32, RuntimeError> {
    // How the command line was parsed is past; and further down, how the configuration was.
    sys::give_back_code();
    let stopped = || wrong_status(entry, Status::Stopped);
    let record = entry.record()?.ok_or_else(stopped)?;
    let first = record.init.ok_or_else(stopped)?;
    let init = first.open()?.ok_or_else(stopped)?;
    let plan = plan(entry, &record, &options)?;
    sys::give_back_code();
    let cgroup = entry.cgroup(&record)?;
    if !options.ignore_paused && cgroup.is_frozen()? {
        return Err(wrong_status(entry, Status::Paused));
    }
    let wanted = plan.process.terminal.is_some();
    let console = Console::choose(wanted, options.console_socket.as_deref(), !options.detach)?;
    let (theirs, ours) = console.map_or((None, None), |console| (Some(console.theirs), console.ours));
    let foreground = if options.detach { None } else { Some(Foreground::take()?) };
    let target = Target { pid: first.pid, init: init.as_fd(), cgroup: &cgroup };
    let given = ExecOptions { stdio: options.stdio, console: theirs, inherited: options.inherited.count() };
    let mut child = exec::exec(&plan, target, given)?;
    let ended = options
        .pid_file
        .as_deref()
        .map_or(Ok(()), |path| pid_file::write(path, child.pid()))
        .and_then(|()| foreground.map_or(Ok(0), |foreground| wait(&foreground, &mut child, ours)));
    if ended.is_err() {
        child.kill_and_reap();
    }
    ended
}

fn plan(entry: &Entry, record: &Record, options: &Exec) -> Result<ExecPlan, RuntimeError> {
    let json = entry.config()?.ok_or_else(|| wrong_status(entry, Status::Stopped))?;
    let bundle = Bundle::parse(record.bundle.clone(), json)?;
    let own = bundle.spec.process().as_ref().ok_or(PlanError::Missing { field: "process" })?;
    let mut process = options.process.resolve(own)?;
    if options.terminal {
        process.set_terminal(Some(true));
    }
    if !options.detach && options.console_socket.is_none() {
        relay::lend_size(&mut process);
    }
    refuse_unsupported_process(&process)?;
    options.inherited.announce(&mut process);
    Ok(ExecPlan::new(&record.id, &bundle, &process)?)
}

fn wait(foreground: &Foreground, child: &mut Child, console: Option<OwnedFd>) -> Result<i32, RuntimeError> {
    foreground.stay_until_end_of(child.pidfd(), console)?;
    Ok(child.wait().map_err(|error| RuntimeError::file("the process", error))?.code())
}

fn wrong_status(entry: &Entry, status: Status) -> RuntimeError {
    RuntimeError::WrongStatus { verb: "execute a program in", id: entry.id.clone(), status }
}
