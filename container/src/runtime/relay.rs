//! Between the terminal that a command was started in and the one of a program in its foreground.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{BoxBuilder, Process};
use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::RuntimeError;

/// How much is on its way at once, in each direction, in bytes. A terminal that is ready takes this much.
const BUFFER_BYTES: usize = 2048;

/// How much of what a program wrote last is passed on, in bytes: what it left running may write for ever.
const MAX_LAST_BYTES: usize = 1 << 20;

/// What can be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
    Program,
}

/// Bytes that were read and not written yet.
#[derive(Debug)]
struct Pending {
    bytes: [u8; BUFFER_BYTES],
    start: usize,
    end: usize,
    /// More may come.
    open: bool,
}

/// Standard input in raw mode, if it is a terminal; dropping it puts the terminal back.
#[derive(Debug)]
struct RawTerminal {
    before: Option<Termios>,
}

/// Has a program's terminal made with the size of this process's, if it is to have one: what it asks for first is right then.
pub(super) fn lend_size(process: &mut Process) {
    if let (Some(true), Some(size)) = (process.terminal(), own_size()) {
        let cells = BoxBuilder::default().height(u64::from(size.ws_row)).width(u64::from(size.ws_col));
        process.set_console_size(cells.build().ok());
    }
}

/// The size of this process's terminal, if it has one that knows.
fn own_size() -> Option<Winsize> {
    let mut sizes = [stdin(), stdout(), stderr()].into_iter().filter_map(|stream| tcgetwinsize(stream).ok());
    sizes.find(|size| size.ws_row > 0 && size.ws_col > 0)
}

/// The relay.
#[derive(Debug)]
pub(super) struct Relay {
    program: OwnedFd,
    input: Pending,
    output: Pending,
    _raw: RawTerminal,
}

impl Relay {
    /// Between this process's streams and the master side of a program's terminal.
    pub(super) fn new(program: OwnedFd) -> Result<Self, RuntimeError> {
        ioctl_fionbio(&program, true).map_err(|errno| RuntimeError::file("the program's terminal", errno))?;
        let relay =
            Self { program, input: Pending::new(), output: Pending::new(), _raw: RawTerminal::enter() };
        relay.resize();
        Ok(relay)
    }

    /// Gives the program's terminal the size of this process's.
    pub(super) fn resize(&self) {
        if let Some(size) = own_size() {
            let _gone = tcsetwinsize(&self.program, size);
        }
    }

    /// What to wait for.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = (Side, BorrowedFd<'_>, PollFlags)> {
        let when = |condition: bool, flags: PollFlags| if condition { flags } else { PollFlags::empty() };
        let program =
            when(self.output.wants_more(), PollFlags::IN) | when(!self.input.is_empty(), PollFlags::OUT);
        [
            (Side::Input, stdin(), when(self.input.wants_more(), PollFlags::IN)),
            (Side::Output, stdout(), when(!self.output.is_empty(), PollFlags::OUT)),
            (Side::Program, self.program.as_fd(), program),
        ]
        .into_iter()
        // Nothing is waited for of what is at its end, which would be told again and again.
        .filter(|(_, _, flags)| !flags.is_empty())
    }

    /// Passes on what can be passed on without waiting.
    pub(super) fn serve(&mut self, side: Side) {
        match side {
            Side::Input => self.input.fill(stdin()),
            Side::Output => self.output.empty(stdout()),
            Side::Program => {
                self.input.empty(self.program.as_fd());
                if self.output.wants_more() {
                    self.output.fill(self.program.as_fd());
                }
            }
        }
    }

    /// Passes on what the program has written before it ended.
    pub(super) fn finish(&mut self) {
        let mut left = MAX_LAST_BYTES;
        loop {
            while !self.output.is_empty() {
                self.output.empty(stdout());
            }
            if !self.output.open || left == 0 || !self.output.fill_once(self.program.as_fd()) {
                return;
            }
            left = left.saturating_sub(self.output.end);
        }
    }
}

impl Pending {
    fn new() -> Self {
        Self { bytes: [0; BUFFER_BYTES], start: 0, end: 0, open: true }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn wants_more(&self) -> bool {
        self.open && self.is_empty()
    }

    fn fill(&mut self, from: BorrowedFd<'_>) {
        let _nothing_there = self.fill_once(from);
    }

    /// Whether anything came.
    fn fill_once(&mut self, from: BorrowedFd<'_>) -> bool {
        match read(from, &mut self.bytes) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            // A terminal whose other side was closed by all is at its end with EIO.
            Ok(0) | Err(_) => {
                self.open = false;
                false
            }
            Ok(count) => {
                (self.start, self.end) = (0, count);
                true
            }
        }
    }

    fn empty(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.bytes[self.start..self.end]) {
            Ok(count) => self.start += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more; the program may write on.
            Err(_) => self.start = self.end,
        }
    }
}

impl RawTerminal {
    fn enter() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _lost = tcsetattr(stdin(), OptionalActions::Now, &raw);
        }
        Self { before }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _lost = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn what_is_read_is_written_and_its_end_is_noticed() {
        let (from, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (reader, to) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut pending = Pending::new();
        assert!(!pending.fill_once(from.as_fd()) && pending.wants_more());
        write(&writer, b"hello").unwrap();
        assert!(pending.fill_once(from.as_fd()) && !pending.wants_more());
        pending.empty(to.as_fd());
        let mut read_back = [0; 9];
        assert_eq!((read(&reader, &mut read_back), &read_back[..5]), (Ok(5), &b"hello"[..]));
        drop(writer);
        pending.fill(from.as_fd());
        assert!(pending.is_empty() && !pending.wants_more());
    }

    #[test]
    fn what_nobody_reads_is_dropped() {
        let (from, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (reader, to) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        drop(reader);
        write(&writer, b"hello").unwrap();
        let mut pending = Pending::new();
        pending.fill(from.as_fd());
        pending.empty(to.as_fd());
        assert!(pending.wants_more());
    }
}
