//! The socket between a container's init process and whoever creates it.
//!
//! ```text
//!   creator                       init
//!      │ ── Mapped ───────────────▶ │   uid and gid maps are written (user namespaces only)
//!      │ ◀─────────── Warning(…) ── │   any number
//!      │ ── Joined ───────────────▶ │   it is in its cgroups
//!      │ ◀──────────── HooksDue ─── │   only where there are hooks to be run before the root is changed
//!      │ ── Hooked ───────────────▶ │
//!      │ ◀───────── Listener(fd) ── │   only where calls are asked about: the creator takes the descriptor
//!      │ ── Listening ────────────▶ │   the agent has it
//!      │ ◀──── Ready | Failed(…) ── │   waiting just before exec
//!      │ ── Start ────────────────▶ │
//!      │ ◀─────── Failed, or end ── │   the end means: exec succeeded (the socket is close-on-exec)
//! ```
//!
//! The creator's end is the only one that keeps the socket open on its side, so its death ends init's waiting.
//!
//! A container that outlives its creator is told `Detach` instead of `Start`. It then waits on a socket with a
//! name for somebody who connects and says `Start`; that connection takes the channel's place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, recv, send, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::step::StepError;
use crate::sys::{self, LastStage};

/// Longest message, in bytes. Longer subjects are cut by the kernel's refusal to send, so they are cut before.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// What the creator tells init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    Mapped = b'M',
    Joined = b'J',
    Start = b'S',
    Detach = b'D',
    Hooked = b'H',
    Listening = b'L',
}

/// What init tells the creator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    Warning(String),
    /// Everything is mounted; the creator is to run its hooks.
    HooksDue,
    Ready,
    Failed(StepError),
    /// The program could not be executed: errno.
    NotExecuted(i32),
    /// It is about to load a filter whose listener will be this descriptor, and is to be told once that is handed over.
    Listener(i32),
    /// A go-between has cloned init, which has this id.
    Cloned(i32),
}

/// The creator's end.
#[derive(Debug)]
pub(crate) struct CreatorEnd(OwnedFd);

/// Init's end.
#[derive(Debug)]
pub(crate) struct InitEnd(OwnedFd);

/// A connected pair, both ends close-on-exec.
pub(crate) fn pair() -> Result<(CreatorEnd, InitEnd), Errno> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((CreatorEnd(a), InitEnd(b)))
}

impl CreatorEnd {
    /// The end of a connection to the named socket of a container that waits to be started.
    pub(crate) fn of_connection(connection: OwnedFd) -> Self {
        Self(connection)
    }

    /// Sends an order. EPIPE means that init is gone.
    pub(crate) fn order(&self, order: Order) -> Result<(), Errno> {
        send(&self.0, &[order as u8], SendFlags::NOSIGNAL).map(|_| ())
    }

    /// As [`CreatorEnd::report`], where the end of `process` is the end too: others may have got hold of the channel, for a
    /// process that executes the container's program can be looked into by the container.
    pub(crate) fn report_of(&self, process: BorrowedFd<'_>) -> io::Result<Option<Report>> {
        let mut ready =
            [PollFd::new(&self.0, PollFlags::IN), PollFd::from_borrowed_fd(process, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ready, None))?;
        if ready[0].revents().is_empty() { Ok(None) } else { self.report() }
    }

    /// The failure that a process which is gone by now has reported, if any.
    pub(crate) fn last_words<E: From<StepError>>(
        &self,
        process: BorrowedFd<'_>,
        not_executed: impl FnOnce(i32) -> E,
    ) -> Option<E> {
        while let Ok(Some(report)) = self.report_of(process) {
            match report {
                Report::Failed(error) => return Some(error.into()),
                Report::NotExecuted(errno) => return Some(not_executed(errno)),
                Report::Ready
                | Report::HooksDue
                | Report::Listener(_)
                | Report::Cloned(_)
                | Report::Warning(_) => {}
            }
        }
        None
    }

    /// The next report, or `None` when init has closed its end.
    pub(crate) fn report(&self) -> io::Result<Option<Report>> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let (length, _) = retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
        if length == 0 {
            return Ok(None);
        }
        let message = &buffer[..length];
        match sys::parse_failure(message) {
            Some((LastStage::Exec, errno)) => Ok(Some(Report::NotExecuted(errno.raw_os_error()))),
            Some((stage, errno)) => Ok(Some(Report::Failed(last_step(stage, errno)))),
            None => serde_json::from_slice(message).map(Some).map_err(io::Error::from),
        }
    }
}

impl InitEnd {
    /// Waits for a connection that says `Start`, and makes it this channel, under the same descriptor number.
    ///
    /// # Errors
    /// Those of accept4(2) and dup3(2).
    pub(crate) fn wait_for_starter(&mut self, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        loop {
            let connection = retry_on_intr(|| accept_with(listener, SocketFlags::CLOEXEC))?;
            rustix::io::dup3(&connection, &mut self.0, rustix::io::DupFlags::CLOEXEC)?;
            drop(connection);
            // One that only wanted to know whether somebody waits here says nothing.
            if self.wait_for(Order::Start).is_ok() {
                return Ok(());
            }
        }
    }

    /// Waits for this order.
    ///
    /// # Errors
    /// EPIPE when the creator is gone, EPROTO when it says something else.
    pub(crate) fn wait_for(&self, order: Order) -> Result<(), Errno> {
        let mut byte = [0];
        let (length, _) = retry_on_intr(|| recv(&self.0, &mut byte, RecvFlags::empty()))?;
        match length {
            0 => Err(Errno::PIPE),
            _ if byte[0] == order as u8 => Ok(()),
            _ => Err(Errno::PROTO),
        }
    }

    /// Sends a report; that nobody listens any more is noticed when waiting for the next order.
    pub(crate) fn report(&self, report: &Report) {
        let Ok(mut message) = serde_json::to_vec(report) else { return };
        if message.len() > MAX_MESSAGE_BYTES {
            let short = StepError::new("report", "a failure", "its description is too long to pass on");
            message = serde_json::to_vec(&Report::Failed(short)).unwrap_or_default();
        }
        let _gone = send(&self.0, &message, SendFlags::NOSIGNAL);
    }
}

impl AsFd for InitEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What failed between the two executions that end in the container's program, as a step.
fn last_step(stage: LastStage, errno: Errno) -> StepError {
    let (step, subject) = match stage {
        LastStage::Seccomp => ("seccomp", "linux.seccomp"),
        LastStage::Channel | LastStage::Exec => ("exec", "the channel to the creator"),
    };
    StepError { errno: Some(errno.raw_os_error()), ..StepError::new(step, subject, io::Error::from(errno)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        let (creator, init) = pair().unwrap();
        let failed = Report::Failed(StepError::new("mounts", "/proc", "no"));
        init.report(&failed);
        init.report(&Report::Ready);
        drop(init);
        assert_eq!(creator.report().unwrap(), Some(failed));
        assert_eq!(creator.report().unwrap(), Some(Report::Ready));
        assert_eq!(creator.report().unwrap(), None);
    }

    #[test]
    fn init_notices_that_its_creator_is_gone() {
        let (creator, init) = pair().unwrap();
        creator.order(Order::Joined).unwrap();
        drop(creator);
        assert_eq!(init.wait_for(Order::Joined), Ok(()));
        assert_eq!(init.wait_for(Order::Start), Err(Errno::PIPE));
    }

    #[test]
    fn the_end_of_the_process_ends_the_waiting_for_its_reports() {
        let (creator, init) = pair().unwrap();
        let (process, still_running) = rustix::pipe::pipe().unwrap();
        init.report(&Report::Ready);
        assert_eq!(creator.report_of(process.as_fd()).unwrap(), Some(Report::Ready));
        drop(still_running);
        assert_eq!(creator.report_of(process.as_fd()).unwrap(), None);
        // What it said before is still heard.
        init.report(&Report::Ready);
        assert_eq!(creator.report_of(process.as_fd()).unwrap(), Some(Report::Ready));
    }

    #[test]
    fn the_last_words_of_a_process_are_its_failure() {
        let (creator, init) = pair().unwrap();
        let (process, _) = rustix::pipe::pipe().unwrap();
        init.report(&Report::Warning("so so".to_owned()));
        init.report(&Report::Failed(StepError::new("mounts", "/proc", "no")));
        let failure = creator.last_words(process.as_fd(), |_| StepError::new("exec", "", ""));
        assert_eq!(failure.unwrap().step, "mounts");
        assert_eq!(creator.last_words(process.as_fd(), |_| StepError::new("exec", "", "")), None);
    }

    #[test]
    fn a_report_that_is_too_long_is_replaced_by_a_short_one() {
        let (creator, init) = pair().unwrap();
        init.report(&Report::Warning("x".repeat(MAX_MESSAGE_BYTES)));
        assert!(matches!(creator.report().unwrap(), Some(Report::Failed(_))));
    }
}
