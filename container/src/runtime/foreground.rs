//! A command that stays until a program's end, and passes on to it the signals that it gets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::error::RuntimeError;
use super::relay::{Relay, Side};
use crate::console::receive_master;
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

    /// Passes signals on to the process until it has ended, and relays its terminal, which comes by way of `console`.
    pub(super) fn stay_until_end_of(
        &self,
        process: BorrowedFd<'_>,
        console: Option<OwnedFd>,
    ) -> Result<(), RuntimeError> {
        let mut relay = console.map(|socket| Relay::new(receive_master(socket.as_fd())?)).transpose()?;
        loop {
            let sides: Vec<_> = relay.iter().flat_map(Relay::waits_for).collect();
            let mut ready = vec![
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(process, PollFlags::IN),
            ];
            ready.extend(sides.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                result => result.map_err(|errno| RuntimeError::file("the program", errno))?,
            };
            let has_ended = !ready[1].revents().is_empty();
            let ready = sides.iter().zip(&ready[2..]).filter(|(_, ready)| !ready.revents().is_empty());
            let ready: Vec<Side> = ready.map(|((side, ..), _)| *side).collect();
            if let Some(relay) = &mut relay {
                ready.into_iter().for_each(|side| relay.serve(side));
            }
            if has_ended {
                if let Some(relay) = &mut relay {
                    relay.finish();
                }
                return Ok(());
            }
            self.pass_on(process, relay.as_ref());
        }
    }

    /// Sends what waits to the process.
    fn pass_on(&self, process: BorrowedFd<'_>, relay: Option<&Relay>) {
        while let Some(signal) = self.signals.next() {
            if let (libc::SIGWINCH, Some(relay)) = (signal, relay) {
                relay.resize();
            }
            if !OWN.contains(&signal) {
                let _ended_meanwhile = sys::send_signal(process, signal);
            }
        }
    }
}
