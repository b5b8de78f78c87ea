//! A command that stays until a program's end, and passes on to it the signals that it gets.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::error::RuntimeError;
use crate::sys::{self, SignalQueue};

/// Signals that are about this process and not for the program: those that its own doings cause.
const OWN: [i32; 9] = [
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGWINCH,
];

/// All signals of this process, queued while this lives.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalQueue,
}

impl Foreground {
    /// From now on, signals wait for a program to be passed on to.
    pub(super) fn take() -> Result<Self, RuntimeError> {
        let signals = SignalQueue::new().map_err(|errno| RuntimeError::file("signalfd", errno))?;
        Ok(Self { signals })
    }

    /// Passes signals on to the process until it has ended.
    pub(super) fn stay_until_end_of(&self, process: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        loop {
            let mut ready = [
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(process, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                result => result.map_err(|errno| RuntimeError::file("the program", errno))?,
            };
            if !ready[1].revents().is_empty() {
                return Ok(());
            }
            self.pass_on(process);
        }
    }

    /// Sends what waits to the process.
    fn pass_on(&self, process: BorrowedFd<'_>) {
        while let Some(signal) = self.signals.next() {
            if !OWN.contains(&signal) {
                let _ended_meanwhile = sys::send_signal(process, signal);
            }
        }
    }
}
