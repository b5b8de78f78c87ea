//! The other side of a console at a Unix socket: this process's terminal becomes the guest's.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::escape::Escape;
use super::terminal::RawTerminal;

/// Why somebody who was attached is no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// They typed Ctrl-A x. The guest goes on.
    Detached,
    /// The machine has ended.
    Closed,
}

/// Attaches standard input and output to the console at `path` until the machine ends or Ctrl-A x is typed.
///
/// # Errors
/// Nobody serves the socket, or the terminal is gone.
pub fn attach(path: &Path) -> io::Result<Left> {
    let stream = UnixStream::connect(path)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let _terminal = RawTerminal::enter();
    carry(&stream, rustix::stdio::stdin(), File::from(output))
}

/// Carries bytes between the console and its user. What is typed waits until the guest takes it.
fn carry(mut console: &UnixStream, input: BorrowedFd<'_>, mut output: File) -> io::Result<Left> {
    let mut escape = Escape::default();
    let mut typing = true;
    let mut bytes = [0; 4096];
    loop {
        let wanted = if typing { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(console, PollFlags::IN), PollFd::from_borrowed_fd(input, wanted)];
        // Of an input that has ended nothing is wanted any more, not even that it has.
        let watched = if typing { 2 } else { 1 };
        match poll(&mut fds[..watched], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [said, typed] = fds.map(|fd| !fd.revents().is_empty());
        if said {
            match rustix::io::read(console.as_fd(), &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(Left::Closed),
                Ok(len) => output.write_all(&bytes[..len])?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if typed && typing {
            let len = rustix::io::read(input, &mut bytes).unwrap_or(0);
            typing = len > 0;
            let (passed, leaves) = escape.filter(&bytes[..len]);
            console.write_all(&passed)?;
            if leaves {
                return Ok(Left::Detached);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn bytes_go_both_ways_until_ctrl_a_x() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (input, mut typist) = std::io::pipe().unwrap();
        let (mut screen, output) = std::io::pipe().unwrap();
        far.write_all(b"login: ").unwrap();
        let user = std::thread::spawn(move || {
            let mut prompt = [0; 7];
            screen.read_exact(&mut prompt).unwrap();
            typist.write_all(b"root\r\x01x").unwrap();
            prompt
        });
        let left = carry(&near, input.as_fd(), std::os::fd::OwnedFd::from(output).into()).unwrap();
        assert_eq!((left, &user.join().unwrap()), (Left::Detached, b"login: "));
        drop(near);
        let mut typed = String::new();
        far.read_to_string(&mut typed).unwrap();
        assert_eq!(typed, "root\r");
    }

    #[test]
    fn an_input_that_has_ended_does_not_end_the_output() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (input, typist) = std::io::pipe().unwrap();
        let (mut screen, output) = std::io::pipe().unwrap();
        drop(typist);
        let guest = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            far.write_all(b"still here").unwrap();
        });
        let left = carry(&near, input.as_fd(), std::os::fd::OwnedFd::from(output).into()).unwrap();
        guest.join().unwrap();
        assert_eq!(left, Left::Closed);
        let mut said = String::new();
        screen.read_to_string(&mut said).unwrap();
        assert_eq!(said, "still here");
    }
}
