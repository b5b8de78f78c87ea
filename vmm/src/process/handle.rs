//! A VMM in a process of its own, as its parent holds it.
//!
//! ```text
//!   building ──Running──► running ──Ended, Died, Broke──► ended
//!       └──Failed──► failed          (or the process dies)
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::channel::{Channel, LONGEST_FROM_VM, Received};
use super::message::{FromVm, ToVm};
use crate::console::terminal::RawTerminal;
use crate::cpu::Death;
use crate::events::EventSink;
use crate::machine::VmExit;
use crate::snapshot::SnapshotError;
use crate::symbols::Symbols;

/// Messages that are taken at one time: a VMM that sends without end does not keep its parent from its other work.
const AT_ONCE: usize = 64;
/// How long a VMM may take to stop before it is killed.
const STOPPING: Duration = Duration::from_secs(5);

/// Why there is no guest any more, or never was one.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process could not be started or given its configuration.
    #[error("cannot start the VMM's process: {0}")]
    Start(io::Error),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The machine could not be built; the text says what to do.
    #[error("{0}")]
    Build(String),
    /// The guest died.
    #[error("the guest died: {0}")]
    Died(Box<Death>),
    /// The host failed the guest.
    #[error("{0}")]
    Broke(String),
    /// The VMM made a system call that its filter forbids.
    #[error(
        "the VMM was ended by its seccomp filter: system call {call} in thread {thread}; either its guest has broken into it, or this is a mistake in carve (docs/jail.md says what to do)"
    )]
    Forbidden {
        /// The call, by name and number.
        call: String,
        /// The thread.
        thread: String,
    },
    /// The process ended without a word.
    #[error("the VMM's process ended unexpectedly: {0}")]
    Lost(ExitStatus),
    /// What it says makes no sense.
    #[error("the VMM's process says what makes no sense, so it was ended: {0}")]
    Nonsense(io::Error),
    /// How the guest ended has been reported already.
    #[error("how the guest ended has been reported already")]
    Reported,
}

/// A VMM in a process of its own. Dropping it kills the process.
pub struct VmProcess {
    child: Child,
    channel: Channel,
    events: Arc<dyn EventSink>,
    reported: bool,
    /// The kernel's System.map.
    pub(super) symbols: Option<PathBuf>,
    /// The sockets that the VMM has made and, in a jail, cannot remove.
    pub(super) sockets: Vec<PathBuf>,
    _terminal: Option<RawTerminal>,
}

impl VmProcess {
    pub(super) fn new(
        child: Child,
        channel: Channel,
        events: Arc<dyn EventSink>,
        terminal: Option<RawTerminal>,
    ) -> Self {
        Self {
            child,
            channel,
            events,
            reported: false,
            symbols: None,
            sockets: Vec::new(),
            _terminal: terminal,
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A descriptor that becomes readable when [`Self::try_wait`] has something to do, and stays so once the guest has
    /// ended.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// How the guest ended, or `None` while it runs. Hands the events since to the sink.
    ///
    /// # Errors
    /// The guest died, the host failed it, its process ended, or its end has been reported already.
    pub fn try_wait(&mut self) -> Result<Option<VmExit>, ProcessError> {
        if self.reported {
            return Err(ProcessError::Reported);
        }
        for _ in 0..AT_ONCE {
            match self.next() {
                Ok(Some(FromVm::Running)) => {}
                Ok(Some(message)) => return self.end(message).map(Some),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.give_up(error)),
            }
        }
        Ok(None)
    }

    /// Waits for the end of the guest and says how it ended.
    ///
    /// # Errors
    /// As for [`Self::try_wait`].
    pub fn wait(mut self) -> Result<VmExit, ProcessError> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            self.wait_for_message(None);
        }
    }

    /// Waits for the end of the guest, which is ended when `interrupted` becomes readable, and says how it ended.
    ///
    /// # Errors
    /// As for [`Self::try_wait`].
    pub fn wait_unless(mut self, interrupted: impl AsFd) -> Result<VmExit, ProcessError> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            let mut fds =
                [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&interrupted, PollFlags::IN)];
            // Interrupted or not: the loop looks, and comes again.
            let _ = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                return self.stop();
            }
        }
    }

    /// Waits for the end of the guest until `deadline`; whether there is one. [`Self::stop`] says which.
    ///
    /// # Errors
    /// As for [`Self::try_wait`].
    pub fn wait_until(&mut self, deadline: Instant) -> Result<Option<VmExit>, ProcessError> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait_for_message(Some(left));
        }
    }

    /// Ends the guest at once, as pulling the plug does, and says how it ended.
    ///
    /// # Errors
    /// As for [`Self::try_wait`].
    pub fn stop(mut self) -> Result<VmExit, ProcessError> {
        self.request_stop();
        // One that does not even stop is killed when it is dropped, which ends the guest as surely.
        Ok(self.wait_until(Instant::now() + STOPPING)?.unwrap_or(VmExit::Stopped))
    }

    /// Asks the guest to end without waiting for it.
    pub fn request_stop(&self) {
        if let Err(error) = self.channel.try_send(&ToVm::Stop) {
            tracing::debug!(%error, "a VMM that was to stop has ended already");
        }
    }

    pub(super) fn send(&self, message: &ToVm, descriptors: &[BorrowedFd<'_>]) -> Result<(), ProcessError> {
        self.channel.send(message, descriptors).map_err(ProcessError::Start)
    }

    /// Returns when the guest runs, or says why it does not.
    pub(super) fn wait_until_running(&mut self) -> Result<(), ProcessError> {
        loop {
            match self.next() {
                Ok(Some(FromVm::Running)) => return Ok(()),
                Ok(Some(message)) => return self.end(message).map(drop),
                Ok(None) => self.wait_for_message(None),
                Err(error) => return Err(self.give_up(error)),
            }
        }
    }

    /// The next message that is no event, if there is one; the process's end is an error.
    fn next(&mut self) -> Result<Option<FromVm>, ProcessError> {
        loop {
            match self.channel.try_receive(LONGEST_FROM_VM).map_err(ProcessError::Nonsense)? {
                Received::Message(FromVm::Event(event), _) => self.events.record(event),
                Received::Message(message, _) => return Ok(Some(message)),
                Received::Nothing => return Ok(None),
                Received::End => return Err(lost(self.child.wait().unwrap_or_default())),
            }
        }
    }

    fn end(&mut self, message: FromVm) -> Result<VmExit, ProcessError> {
        self.reported = true;
        match message {
            FromVm::Ended(exit) => Ok(exit),
            FromVm::Died(mut death) => {
                for text in [Some(&mut death.cause), Some(&mut death.mode), death.instruction.as_mut()] {
                    text.into_iter().for_each(make_printable);
                }
                self.name_place(&mut death);
                Err(ProcessError::Died(death))
            }
            FromVm::Failed(mut reason) => {
                make_printable(&mut reason);
                Err(ProcessError::Build(reason))
            }
            FromVm::Broke(mut reason) => {
                make_printable(&mut reason);
                Err(ProcessError::Broke(reason))
            }
            FromVm::Forbidden { call, mut thread } => {
                make_printable(&mut thread);
                Err(ProcessError::Forbidden { call: name_of_call(call), thread })
            }
            FromVm::Running | FromVm::Event(_) => {
                Err(ProcessError::Nonsense(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    fn give_up(&mut self, error: ProcessError) -> ProcessError {
        self.reported = true;
        self.kill();
        error
    }

    /// Adds the kernel's name for the place of a death, where symbols were given: the VMM itself can no longer read them.
    fn name_place(&self, death: &mut Death) {
        let Some(path) = &self.symbols else { return };
        match Symbols::read(path) {
            Ok(symbols) => death.name_place(&symbols),
            Err(error) => tracing::warn!(%error, "no symbol for the place where the guest died"),
        }
    }

    fn wait_for_message(&self, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
        // Interrupted or not: the caller looks, and comes again.
        let _ = poll(&mut fds, limit.as_ref());
    }

    fn kill(&mut self) {
        // It may have ended, and been waited for, already.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => tracing::debug!(signal = status.signal(), "the VMM's process has ended"),
            Err(error) => tracing::warn!(%error, "cannot wait for the VMM's process"),
        }
    }
}

impl Drop for VmProcess {
    fn drop(&mut self) {
        self.kill();
        for socket in &self.sockets {
            // Gone already if the directory was cleaned up.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// The end of a process that had no word for it. A forbidden call made while signals are blocked is such a one.
fn lost(status: ExitStatus) -> ProcessError {
    match status.signal() {
        Some(libc::SIGSYS) => ProcessError::Forbidden {
            call: "of unknown number".to_owned(),
            thread: "of unknown name".to_owned(),
        },
        _ => ProcessError::Lost(status),
    }
}

/// A system call as people know it.
fn name_of_call(number: i32) -> String {
    let call = usize::try_from(number).ok().and_then(syscalls::Sysno::new);
    call.map_or_else(|| number.to_string(), |call| format!("{} ({number})", call.name()))
}

/// Text from the VMM ends up on terminals, which obey control characters.
fn make_printable(text: &mut String) {
    *text = text.replace(char::is_control, " ");
}
