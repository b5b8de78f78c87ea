//! A debugger's end of the socket: bytes in, bytes out, without ever waiting for one that does not read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use gdbstub::conn::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// How long a debugger may not read before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are read at once, and written at once unless the answer ends before.
const CHUNK: usize = 4096;

/// What came first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The next byte from the debugger.
    Byte(u8),
    /// The debugger has gone.
    Gone,
    /// One of the other descriptors, by its place among them.
    Other(usize),
}

/// A connected debugger.
pub(super) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
    to_send: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), taken: 0, to_send: Vec::new() }
    }

    /// Waits for the next byte, or for one of `others` to be readable, which come first.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn wait(&mut self, others: &[BorrowedFd<'_>]) -> io::Result<Came> {
        loop {
            let has_bytes = self.taken < self.received.len();
            if let Some(came) = self.look(others, has_bytes)? {
                return Ok(came);
            }
            if let Some(byte) = self.received.get(self.taken) {
                self.taken += 1;
                return Ok(Came::Byte(*byte));
            }
            self.received.resize(CHUNK, 0);
            self.taken = 0;
            let result = recv(&self.stream, &mut self.received[..], RecvFlags::DONTWAIT);
            self.received.truncate(*result.as_ref().map_or(&0, |(len, _)| len));
            match result {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Came::Gone),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Which of `others` is readable; waits for the socket, too, unless there are bytes already.
    fn look(&self, others: &[BorrowedFd<'_>], has_bytes: bool) -> io::Result<Option<Came>> {
        let all = others.iter().copied().chain([self.stream.as_fd()]);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut fds, has_bytes.then_some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds.iter().take(others.len()).position(|fd| !fd.revents().is_empty());
        Ok(ready.map(Came::Other))
    }
}

impl Connection for Client {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.to_send.push(byte);
        if self.to_send.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.to_send);
        let mut rest = &bytes[..];
        let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        while !rest.is_empty() {
            match send(&self.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
                    if poll(&mut fds, Some(&patience)) == Ok(0) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_come_one_by_one_and_then_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours);
        Write::write_all(&mut theirs, b"ab").unwrap();
        assert_eq!(client.wait(&[]).unwrap(), Came::Byte(b'a'));
        drop(theirs);
        assert_eq!(client.wait(&[]).unwrap(), Came::Byte(b'b'));
        assert_eq!(client.wait(&[]).unwrap(), Came::Gone);
    }

    #[test]
    fn what_else_is_waited_for_comes_first() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (event, mut raise) = UnixStream::pair().unwrap();
        Write::write_all(&mut theirs, b"a").unwrap();
        Write::write_all(&mut raise, b"!").unwrap();
        assert_eq!(Client::new(ours).wait(&[event.as_fd()]).unwrap(), Came::Other(0));
    }

    #[test]
    fn answers_arrive_whole() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        client.write_all(&[b'x'; 1_000_000]).unwrap();
        client.flush().unwrap();
        drop(client);
        assert_eq!(reader.join().unwrap(), 1_000_000);
    }
}
