//! A container that exists: start it, signal it, wait for it, delete it.
//!
//! ```text
//! create ─▶ created ── start ─▶ running ── ends ─▶ stopped ── delete ─▶ gone
//!              └──────────────── delete (kills) ─────────────────────────▲
//! ```

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::cgroup::{Cgroup, CgroupError};
use crate::channel::{CreatorEnd, Order, Report};
use crate::child::Child;
use crate::step::StepError;
use crate::sys;

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The code as a shell gives it: the process's own, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// A container whose program could not be started. Its init process has ended; [`Container::delete`] it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error(
        "{program:?}: executable file not found in the container; a name without a slash is looked for along $PATH"
    )]
    NotFound {
        /// The program.
        program: String,
    },
    /// The program may not be executed.
    #[error("{program:?}: permission denied; the file must be executable for the container's user")]
    PermissionDenied {
        /// The program.
        program: String,
    },
    /// The kernel cannot execute it.
    #[error("{program:?} cannot be executed: {source}")]
    NotExecutable {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A last step inside the container failed.
    #[error("cannot start the container: {0}")]
    Step(#[from] StepError),
    /// The init process is not there to be started.
    #[error("the container's init process is gone; it was killed or started before")]
    Gone,
}

impl StartError {
    /// What errno from the search for the program, or from its execution, means.
    pub(crate) fn not_executed(program: &str, errno: i32) -> Self {
        let program = program.to_owned();
        match Errno::from_raw_os_error(errno) {
            Errno::NOENT => Self::NotFound { program },
            Errno::ACCESS => Self::PermissionDenied { program },
            errno => Self::NotExecutable { program, source: errno.into() },
        }
    }

    /// The exit code that stands for this failure, in Docker's way.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::PermissionDenied { .. } | Self::NotExecutable { .. } => 126,
            Self::Step(_) | Self::Gone => 125,
        }
    }
}

/// A container that could not be deleted entirely.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Its cgroup is still there.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// A container, as the process that created it holds it.
///
/// Dropping it leaves the container as it is, apart from one that was never started, whose init process then ends.
#[derive(Debug)]
pub struct Container {
    init: Child,
    channel: Option<CreatorEnd>,
    cgroup: Cgroup,
    program: String,
    warnings: Vec<String>,
}

impl Container {
    pub(crate) fn new(
        init: Child,
        channel: CreatorEnd,
        cgroup: Cgroup,
        program: String,
        warnings: Vec<String>,
    ) -> Self {
        Self { init, channel: Some(channel), cgroup, program, warnings }
    }

    /// The id of its first process, in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.init.pid()
    }

    /// A descriptor of its first process, readable when that has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd()
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What could not be had as asked for, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Executes the container's program. Returns once that has happened.
    ///
    /// # Errors
    /// When the program cannot be executed; the init process has ended then.
    pub fn start(&mut self) -> Result<(), StartError> {
        let channel = self.channel.take().ok_or(StartError::Gone)?;
        order_start(&channel, &self.program)
    }

    /// Lets the container outlive this process: it waits, with its program not started yet, for somebody who
    /// connects to the socket that it was created with.
    ///
    /// # Errors
    /// When its init process is gone.
    pub fn detach(mut self) -> Result<(), StartError> {
        let channel = self.channel.take().ok_or(StartError::Gone)?;
        channel.order(Order::Detach).map_err(|_gone| StartError::Gone)
    }

    /// Sends a signal, by number, to the container's first process.
    ///
    /// # Errors
    /// `ESRCH` when it has ended, `EINVAL` when there is no such signal.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        sys::send_signal(self.pidfd(), signal).map_err(io::Error::from)
    }

    /// Waits for the container's first process to end. May be called again.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.init.wait()
    }

    /// How the container's first process ended, or `None` when it has not.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has waited for it.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.init.try_wait()
    }

    /// Kills what is left of the container and removes its cgroup. Doing it again does nothing.
    ///
    /// # Errors
    /// When the cgroup cannot be removed.
    pub fn delete(&mut self) -> Result<(), DeleteError> {
        self.channel = None;
        self.init.kill_and_reap();
        Ok(self.cgroup.remove()?)
    }
}

/// Gives the order to start, and waits for the program's execution or its failure.
pub(crate) fn order_start(channel: &CreatorEnd, program: &str) -> Result<(), StartError> {
    channel.order(Order::Start).map_err(|_gone| StartError::Gone)?;
    match channel.report() {
        // The socket is close-on-exec. A process that was killed closes it as well, and waiting shows that.
        Ok(None) => Ok(()),
        Ok(Some(Report::NotExecuted(errno))) => Err(StartError::not_executed(program, errno)),
        Ok(Some(Report::Failed(error))) => Err(error.into()),
        Ok(Some(
            Report::Ready | Report::HooksDue | Report::Listener(_) | Report::Cloned(_) | Report::Warning(_),
        ))
        | Err(_) => Err(StartError::Gone),
    }
}
