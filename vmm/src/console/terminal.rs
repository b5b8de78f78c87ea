//! The host's terminal: raw for as long as a guest uses it, and as large as it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::SIGWINCH;

use crate::console::Size;

/// Standard input in raw mode; dropping it puts the terminal back.
pub(crate) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    /// Leaves standard input as it is for now: whoever shares it may put it into raw mode.
    pub(crate) fn keep() -> Self {
        Self { before: tcgetattr(rustix::stdio::stdin()).ok() }
    }

    /// Puts standard input into raw mode if it is a terminal.
    pub(crate) fn enter() -> Self {
        Self { before: make_raw(rustix::stdio::stdin().as_fd()) }
    }
}

fn make_raw(fd: impl AsFd) -> Option<Termios> {
    let before = tcgetattr(&fd).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(&fd, OptionalActions::Now, &raw).ok()?;
    Some(before)
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The size of `fd`, if it is a terminal.
pub(crate) fn size(fd: impl AsFd) -> Option<Size> {
    let size = tcgetwinsize(fd).ok()?;
    Some(Size { columns: size.ws_col, rows: size.ws_row })
}

/// Becomes readable when the size of this process's terminal changes (SIGWINCH).
#[derive(Debug)]
pub(crate) struct Resizes {
    pipe: File,
    handler: SigId,
}

impl Resizes {
    /// Listens from now on.
    ///
    /// # Errors
    /// The host gives no pipe.
    pub(crate) fn new() -> io::Result<Self> {
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let handler = signal_hook::low_level::pipe::register(SIGWINCH, writer)?;
        Ok(Self { pipe: pipe.into(), handler })
    }

    /// Forgets the changes so far.
    pub(crate) fn forget(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.pipe, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsFd for Resizes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Resizes {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.handler);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    /// A terminal: the side of the person, and the side of the program.
    pub(crate) fn terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        (master.into(), slave.into())
    }

    #[test]
    fn a_terminal_becomes_raw_and_a_pipe_is_left_alone() {
        let (_master, terminal) = terminal();
        let before = make_raw(&terminal).expect("a terminal");
        assert!(before.local_modes.contains(LocalModes::ECHO));
        assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(make_raw(&pipe).is_none() && size(&pipe).is_none());
    }

    #[test]
    fn a_change_of_size_is_noticed_and_forgotten() {
        let resizes = Resizes::new().unwrap();
        let noticed = || {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&resizes, PollFlags::IN)], Some(&now)).unwrap() == 1
        };
        assert!(!noticed());
        signal_hook::low_level::raise(SIGWINCH).unwrap();
        assert!(noticed());
        resizes.forget();
        assert!(!noticed());
    }
}
