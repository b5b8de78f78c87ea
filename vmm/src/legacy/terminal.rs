//! The host's terminal in raw mode for as long as a guest uses it.

use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Standard input in raw mode; dropping it puts the terminal back.
pub(crate) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
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

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn a_terminal_becomes_raw_and_a_pipe_is_left_alone() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let before = make_raw(&terminal).expect("a terminal");
        assert!(before.local_modes.contains(LocalModes::ECHO));
        assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(make_raw(&pipe).is_none());
    }
}
