//! A process that this one cloned: signal it, wait for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::container::ExitStatus;
use crate::sys;

/// A container's first process, or one that joined it; a child of this process.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, status: None }
    }

    /// Its id in this process's pid namespace, as a number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A descriptor of it, readable when it has ended.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end. May be called again.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.poll(WaitIdOptions::EXITED)? {
                return Ok(status);
            }
        }
    }

    /// How it ended, or `None` when it has not.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.poll(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Makes sure that it is gone.
    pub(crate) fn kill_and_reap(&mut self) {
        if self.status.is_none() {
            let _gone_already = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _reaped_elsewhere = self.poll(WaitIdOptions::EXITED);
        }
    }

    fn poll(&mut self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let ended = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))?;
        self.status = ended.and_then(|ended| {
            let exited = ended.exit_status().map(ExitStatus::Exited);
            exited.or(ended.terminating_signal().map(ExitStatus::Signaled))
        });
        Ok(self.status)
    }
}
