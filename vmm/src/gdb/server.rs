//! The stub's thread: debuggers, one after the other, as long as the guest lives.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

use super::Guest;
use super::session::{self, Events, Left};
use super::target::Machine;
use crate::cpu::CpuError;
use crate::cpu::confinement::Confinement;
use crate::cpu::debug::Traps;
use crate::memory::GuestMemory;
use crate::seccomp::ThreadKind;

/// Enough for packets; only what is touched becomes resident.
const STACK: usize = 256 << 10;

/// What the thread needs.
pub(crate) struct Place {
    /// Where debuggers connect.
    pub(crate) listener: UnixListener,
    /// The vCPUs, which stand still.
    pub(crate) guest: Box<dyn Guest>,
    /// The guest's memory.
    pub(crate) memory: GuestMemory,
    /// Where vCPUs say that they have stopped.
    pub(crate) traps: Arc<Traps>,
    /// Readable when the guest has ended.
    pub(crate) ended: Arc<OwnedFd>,
}

/// The thread.
pub(crate) struct Debugger(Option<JoinHandle<()>>);

impl Debugger {
    /// Waits for debuggers on a thread named `gdb`. The guest goes on when the first one lets it.
    ///
    /// # Errors
    /// The host gives no thread.
    pub(crate) fn spawn(place: Place, confined: bool) -> Result<Self, CpuError> {
        let (confine, is_confined) = Confinement::new(ThreadKind::Debugger, confined);
        let body = move || {
            if confine.begin() {
                serve(&place);
            }
        };
        let builder = thread::Builder::new().name("gdb".into()).stack_size(STACK);
        let thread = builder.spawn(body).map_err(|error| CpuError::Thread(error.to_string()))?;
        is_confined.wait()?;
        Ok(Self(Some(thread)))
    }

    /// Waits until the debugger has heard of the guest's end. It is over: this takes as long as the debugger takes to
    /// read, a few seconds at most.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the debugger's thread panicked");
        }
    }
}

fn serve(place: &Place) {
    let guest = &*place.guest;
    while let Some(stream) = next_debugger(place) {
        // Those of the debugger before.
        place.traps.take();
        let result = guest.stop().and_then(|()| Machine::new(guest, &place.memory));
        let Ok(mut machine) = result else { break };
        let events = Events { traps: &place.traps, ended: &place.ended };
        match session::serve(stream, &mut machine, &events) {
            Ok(Left::Detached) => {}
            Ok(Left::Killed) => {
                guest.end();
                break;
            }
            Err(error) => tracing::warn!(%error, "a debugger was disconnected"),
        }
        if machine.stop().and_then(|()| machine.let_go()).is_err() {
            break;
        }
    }
    // Those that stand still would keep the others from ending.
    guest.go(&|_| true);
}

/// The next one that connects; `None` when the guest has ended.
fn next_debugger(place: &Place) -> Option<UnixStream> {
    loop {
        let mut fds = [
            PollFd::new(&place.ended, PollFlags::IN),
            PollFd::from_borrowed_fd(place.listener.as_fd(), PollFlags::IN),
            PollFd::new(place.traps.event(), PollFlags::IN),
        ];
        if let Err(error) = poll(&mut fds, None)
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "cannot wait for a debugger");
            return None;
        }
        if !fds[0].revents().is_empty() {
            return None;
        }
        if !fds[2].revents().is_empty() {
            // It dies, and nobody wants to look.
            place.traps.take();
            if place.guest.stop().is_ok() {
                place.guest.go(&|_| true);
            }
        }
        if !fds[1].revents().is_empty() {
            match place.listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) => tracing::warn!(%error, "a debugger could not connect"),
            }
        }
    }
}
