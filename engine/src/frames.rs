//! One end of a connection that carries [`agent::protocol`] messages, without blocking.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use agent::protocol::{Message, append, parse};

/// Bytes read from a connection at once.
const READ: usize = 64 << 10;

/// A connection with what was received in part and what could not be sent yet.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    at_end: bool,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, received: Vec::new(), unsent: Vec::new(), at_end: false })
    }

    /// Bytes that wait until the other end reads.
    pub(crate) fn backlog(&self) -> usize {
        self.unsent.len()
    }

    /// Reads what is there; `next` then yields the whole messages in it.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let old = self.received.len();
        self.received.resize(old + READ, 0);
        let read = self.stream.read(&mut self.received[old..]);
        self.received.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.at_end = true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.at_end = true,
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Whether the other end closed.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    /// The next whole message received.
    pub(crate) fn next<M: Message>(&mut self) -> io::Result<Option<M>> {
        Ok(parse(&self.received)?.map(|(message, used)| {
            self.received.drain(..used);
            message
        }))
    }

    /// Sends a message, or keeps it until the other end reads.
    pub(crate) fn send<M: Message>(&mut self, message: &M) -> io::Result<()> {
        append(&mut self.unsent, message)?;
        self.flush()
    }

    /// Sends what was kept, as far as the other end takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match self.stream.write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.unsent.drain(..sent);
        result
    }

    /// Sends what was kept, waiting for the other end, before the process ends.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(std::time::Duration::from_secs(5)))?;
        self.flush()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use agent::protocol::{FromAgent, ToAgent, send};

    use super::*;

    fn pair() -> (Connection, Connection) {
        let (a, b) = UnixStream::pair().unwrap();
        (Connection::new(a).unwrap(), Connection::new(b).unwrap())
    }

    #[test]
    fn keeps_what_the_other_end_does_not_read_and_loses_nothing() {
        let (mut a, mut b) = pair();
        let count: usize = 200;
        for i in 0..count {
            a.send(&FromAgent::Stdout(vec![u8::try_from(i).unwrap(); 10_000])).unwrap();
        }
        assert!(a.backlog() > 0);
        let mut got = 0;
        while got < count {
            b.fill().unwrap();
            while let Some(message) = b.next::<FromAgent>().unwrap() {
                assert_eq!(message, FromAgent::Stdout(vec![u8::try_from(got).unwrap(); 10_000]));
                got += 1;
            }
            a.flush().unwrap();
        }
        assert_eq!(a.backlog(), 0);
    }

    #[test]
    fn puts_messages_together_from_single_bytes() {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut b = Connection::new(b).unwrap();
        let mut bytes = Vec::new();
        send(&mut bytes, &ToAgent::Signal(15)).unwrap();
        for byte in bytes {
            assert_eq!(b.next::<ToAgent>().unwrap(), None);
            a.write_all(&[byte]).unwrap();
            b.fill().unwrap();
        }
        assert_eq!(b.next::<ToAgent>().unwrap(), Some(ToAgent::Signal(15)));
        drop(a);
        b.fill().unwrap();
        assert!(b.at_end());
    }

    #[test]
    fn refuses_a_frame_that_is_too_long() {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut b = Connection::new(b).unwrap();
        a.write_all(&u32::MAX.to_le_bytes()).unwrap();
        b.fill().unwrap();
        assert!(b.next::<ToAgent>().is_err());
    }
}
