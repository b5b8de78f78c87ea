//! A console at a Unix socket: clients attach and leave, one at a time, others wait until it has left.
//!
//! While nobody is attached the guest is not held up: the last [`KEPT`] bytes of what it says are kept for the next
//! client, older ones are lost. A client that is attached gets everything, and holds the guest up if it does not read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use event_manager::EventSet;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::console::HostEnd;
use crate::virtio::Watch;
use crate::virtio::vsock::host_socket::Listener;

/// Bytes that are kept for the next client.
pub(crate) const KEPT: usize = 64 << 10;
const LISTENER: u32 = 0;
const CLIENT: u32 = 1;

/// The socket and whoever is attached.
#[derive(Debug)]
pub(crate) struct SocketEnd {
    listener: Listener,
    client: Option<UnixStream>,
    kept: VecDeque<u8>,
    watches: Vec<Watch>,
}

impl SocketEnd {
    /// Listens at `path`. A socket that a dead process has left there is replaced.
    ///
    /// # Errors
    /// The path is taken, too long or not writable.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let listener = Listener::bind(path)?;
        let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let watches = vec![Watch::Add { fd: listener.socket().as_raw_fd(), token: LISTENER, events }];
        Ok(Self { listener, client: None, kept: VecDeque::new(), watches })
    }

    /// Attaches the client that has waited longest, if nobody is attached.
    fn welcome(&mut self) {
        while self.client.is_none()
            && let Some(stream) = self.listener.accept()
        {
            let events = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
            self.watches.push(Watch::Add { fd: stream.as_raw_fd(), token: CLIENT, events });
            self.client = Some(stream);
            self.hand_over();
        }
    }

    /// Gives the client what was kept; whether it has got all of it. It may turn out to have left.
    fn hand_over(&mut self) -> bool {
        while let (Some(client), false) = (&self.client, self.kept.is_empty()) {
            match send_some(client, self.kept.as_slices().0) {
                Ok(count) => drop(self.kept.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.part(),
            }
        }
        self.kept.is_empty()
    }

    fn part(&mut self) {
        self.watches.extend(self.client.take().map(|client| Watch::Close(client.into())));
    }

    fn keep(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(KEPT)..];
        let too_many = (self.kept.len() + newest.len()).saturating_sub(KEPT);
        self.kept.drain(..too_many);
        self.kept.extend(newest);
    }
}

impl HostEnd for SocketEnd {
    /// Never at an end: the next client may have something to say.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.welcome();
            let client = self.client.as_ref().ok_or(io::ErrorKind::WouldBlock)?;
            match recv(client, &mut *bytes, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.part(),
                Ok((_, count)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => self.part(),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.welcome();
            if self.client.is_some() && !self.hand_over() && self.client.is_some() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let Some(client) = &self.client else {
                self.keep(bytes);
                return Ok(bytes.len());
            };
            match send_some(client, bytes) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.part(),
                result => return result,
            }
        }
    }

    fn on_event(&mut self, _token: u32) {
        self.welcome();
        self.hand_over();
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }
}

fn send_some(client: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(client, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    struct Fixture {
        end: SocketEnd,
        directory: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let end = SocketEnd::bind(&directory.path().join("console")).unwrap();
        Fixture { end, directory }
    }

    impl Fixture {
        fn attach(&mut self) -> UnixStream {
            let client = UnixStream::connect(self.directory.path().join("console")).unwrap();
            self.end.on_event(LISTENER);
            client
        }

        fn read(&mut self) -> Vec<u8> {
            let mut bytes = [0; 64];
            match self.end.read(&mut bytes) {
                Ok(count) => bytes[..count].to_vec(),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    Vec::new()
                }
            }
        }
    }

    fn receive(client: &mut UnixStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        client.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_last_words_are_kept_for_the_next_client() {
        let mut fixture = fixture();
        for _ in 0..3 {
            assert_eq!(fixture.end.write(&[b'-'; KEPT]).unwrap(), KEPT);
        }
        fixture.end.write(b"login: ").unwrap();
        assert_eq!(fixture.end.kept.len(), KEPT);
        let mut client = fixture.attach();
        let all = receive(&mut client, KEPT);
        assert!(all.ends_with(b"-login: ") && all.starts_with(b"-"));
        assert!(fixture.end.kept.is_empty());
    }

    #[test]
    fn both_directions_work_and_the_next_client_waits_for_its_turn() {
        let mut fixture = fixture();
        let mut first = fixture.attach();
        let mut second = fixture.attach();
        second.write_all(b"two").unwrap();
        first.write_all(b"one").unwrap();
        assert_eq!(fixture.read(), b"one");
        assert_eq!(fixture.read(), b"");
        fixture.end.write(b"for the first").unwrap();
        assert_eq!(receive(&mut first, 13), b"for the first");
        drop(first);
        assert_eq!(fixture.read(), b"two");
        fixture.end.write(b"for the second").unwrap();
        assert_eq!(receive(&mut second, 14), b"for the second");
        let kinds: Vec<bool> =
            fixture.end.take_watches().iter().map(|watch| matches!(watch, Watch::Add { .. })).collect();
        assert_eq!(kinds, [true, true, false, true], "listener, first, first has left, second");
    }

    #[test]
    fn a_client_that_does_not_read_holds_the_guest_up_and_loses_nothing() {
        let mut fixture = fixture();
        let mut client = fixture.attach();
        let mut sent = 0;
        while let Ok(count) = fixture.end.write(&[7; 4096]) {
            sent += count;
        }
        assert!(sent > 0 && fixture.end.kept.is_empty());
        assert_eq!(receive(&mut client, sent), vec![7; sent]);
        assert_eq!(fixture.end.write(b"more").unwrap(), 4);
    }

    #[test]
    fn a_client_that_leaves_while_it_is_written_to_is_replaced_by_memory() {
        let mut fixture = fixture();
        drop(fixture.attach());
        assert_eq!(fixture.end.write(b"still there?").unwrap(), 12);
        let mut next = fixture.attach();
        assert_eq!(receive(&mut next, 12), b"still there?");
    }

    #[test]
    fn the_path_disappears_with_the_console() {
        let Fixture { end, directory } = fixture();
        drop(end);
        assert!(!directory.path().join("console").exists());
    }
}
