//! Standard input into the serial port, as fast as the guest reads it.
//!
//! While the port is full, input is not polled; the port signals when the guest has read it. A regular file cannot be
//! polled and is always ready: it is read whenever the port has room. On a terminal, Ctrl-A x ends the guest (as in
//! QEMU), and Ctrl-A Ctrl-A sends one Ctrl-A.

use std::sync::{Arc, Mutex, PoisonError};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::fs::FileType;
use vmm_sys_util::eventfd::EventFd;

use super::serial::SerialPort;
use crate::console::escape::Escape;
use crate::cpu::Kick;
use crate::machine::{Requests, VmExit};

/// The subscriber that moves input.
pub(crate) struct ConsoleInput {
    port: Arc<Mutex<SerialPort>>,
    input_read: Arc<EventFd>,
    /// `None` when input does not come from a terminal: then every byte is the guest's.
    escape: Option<Escape>,
    /// Input is a regular file.
    always_ready: bool,
    /// Input is wanted.
    polling: bool,
    at_end: bool,
    requests: Arc<Requests>,
    kicker: Arc<dyn Kick>,
}

impl ConsoleInput {
    /// Moves standard input into `port`, which signals `input_read` when it has room again.
    pub(crate) fn new(
        port: Arc<Mutex<SerialPort>>,
        input_read: Arc<EventFd>,
        requests: Arc<Requests>,
        kicker: Arc<dyn Kick>,
    ) -> Self {
        let is_terminal = rustix::termios::isatty(rustix::stdio::stdin());
        let escape = is_terminal.then(Escape::default);
        let mode = rustix::fs::fstat(rustix::stdio::stdin()).map_or(0, |stat| stat.st_mode);
        let always_ready = FileType::from_raw_mode(mode).is_file();
        Self { port, input_read, escape, always_ready, polling: false, at_end: false, requests, kicker }
    }

    fn poll(&mut self, wanted: bool, ops: &mut EventOps) {
        if self.at_end || self.polling == wanted {
            return;
        }
        if self.always_ready {
            self.polling = wanted;
            while self.polling && !self.at_end {
                self.move_input(ops);
            }
            return;
        }
        let stdin = rustix::stdio::stdin();
        let events = Events::new(&stdin, EventSet::IN);
        let result = if wanted { ops.add(events) } else { ops.remove(events) };
        match result {
            Ok(()) => self.polling = wanted,
            // What cannot be polled, such as /dev/null, is not for a console.
            Err(error) => {
                tracing::debug!(%error, "standard input is not used");
                self.at_end = true;
            }
        }
    }

    fn move_input(&mut self, ops: &mut EventOps) {
        let mut bytes = [0; 64];
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        // One byte of room may be needed for a Ctrl-A that turns out not to start an escape.
        let room = port.room().saturating_sub(1).min(bytes.len());
        if room == 0 {
            drop(port);
            self.poll(false, ops);
            return;
        }
        let len = match rustix::io::read(rustix::stdio::stdin(), bytes.get_mut(..room).unwrap_or_default()) {
            Ok(len) => len,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
            Err(_) => 0,
        };
        let typed = bytes.get(..len).unwrap_or_default();
        let (passed, end) = match &mut self.escape {
            Some(escape) => escape.filter(typed),
            None => (typed.to_vec(), false),
        };
        if let Err(error) = port.input(&passed) {
            tracing::warn!(%error, "serial input is lost");
        }
        drop(port);
        if len == 0 {
            self.poll(false, ops);
            self.at_end = true;
        }
        if end {
            self.requests.end(VmExit::Stopped);
            if let Err(error) = self.kicker.kick() {
                tracing::warn!(%error, "cannot stop the guest");
            }
        }
    }
}

impl MutEventSubscriber for ConsoleInput {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.input_read, EventSet::IN)) {
            tracing::warn!(%error, "serial input may stall");
        }
        self.poll(true, ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        use std::os::fd::AsRawFd;
        if events.fd() == self.input_read.as_raw_fd() {
            let _ = self.input_read.read();
            self.poll(true, ops);
        } else {
            self.move_input(ops);
        }
    }
}
