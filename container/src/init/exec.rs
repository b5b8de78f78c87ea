//! The last step: the container's program.

use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use rustix::io::Errno;

use crate::channel::{InitEnd, Report};
use crate::plan::{Plan, ProcessPlan};
use crate::sys::LastExec;

/// The program, found, and what executes it.
pub(super) struct Program {
    path: CString,
    last: LastExec,
}

/// Prepares the program in between, with the filter if nothing needs a right to load it.
pub(super) fn prepare(plan: &Plan, channel: &InitEnd) -> Result<LastExec, Errno> {
    let filter = plan.seccomp.as_ref().filter(|_| plan.process.no_new_privileges);
    LastExec::new(channel.as_fd(), filter.map(|filter| (filter.program.as_slice(), filter.flags)))
}

/// The first of the candidates that can be executed; else why none can, in the way of execvp(3).
pub(super) fn find(process: &ProcessPlan, last: LastExec) -> Result<Program, Report> {
    let mut failure = Errno::NOENT;
    for path in &process.programs {
        match executable(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // There may be another one that may be executed.
            Err(Errno::ACCESS) => failure = Errno::ACCESS,
            // What cannot be found out beforehand is told by the execution itself.
            Ok(()) | Err(_) => return Ok(Program { path: path.clone(), last }),
        }
    }
    Err(Report::NotExecuted(failure.raw_os_error()))
}

fn executable(path: &CString) -> Result<(), Errno> {
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    let found = statat(CWD, path, AtFlags::empty())?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Errno::ACCESS),
    }
}

/// Executes the program; returns why that could not be.
pub(super) fn exec(program: &Program, process: &ProcessPlan, channel: &InitEnd) -> Report {
    let errno = program.last.run(channel.as_fd(), &program.path, &process.args, &process.env);
    Report::NotExecuted(errno.raw_os_error())
}
