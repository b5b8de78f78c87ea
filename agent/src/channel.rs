//! The connection to the engine: frames in, frames out, never blocking but where it says so.
//!
//! Output waits in a buffer of one chunk; while it is not empty the relay reads no more of the app's output, so that
//! a slow engine slows the app down and nothing piles up in the guest.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

use agent::protocol::{self, CHUNK, ENGINE_PORT, FromAgent, HEADER, HOST_CID, ToAgent};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::time::Timespec;

use crate::mounts::Dev;
use crate::sys::{inherited, vsock};

/// How often connecting is tried, and how long the agent sleeps in between.
const TRIES: u32 = 100;
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What can end the conversation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The engine closed its end.
    #[error("the engine closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection failed: {0}")]
    Socket(#[from] Errno),
    /// The engine spoke another language.
    #[error("message not understood: {0}")]
    Message(io::Error),
}

/// The connection and what waits in it.
pub(crate) struct Channel {
    socket: OwnedFd,
    incoming: Vec<u8>,
    parsed: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

/// Connects to the engine, or adopts the connection of a test: `--connection FD --dev DIRECTORY`, where the directory
/// stands for `/dev`.
///
/// # Errors
/// The last answer of the kernel when the engine could not be reached for about two seconds.
pub(crate) fn open() -> io::Result<(Channel, Dev)> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--connection") {
        let number = args.next().and_then(|number| number.parse().ok()).unwrap_or(-1);
        let dev = args.nth(1).map_or(Dev::Kernel, |path| Dev::Directory(PathBuf::from(path)));
        return Ok((Channel::new(above_stdio(inherited::adopt(number)?)?), dev));
    }
    Ok((connect()?, Dev::Kernel))
}

fn connect() -> io::Result<Channel> {
    let mut tries = 1;
    loop {
        match vsock::connect(HOST_CID, ENGINE_PORT) {
            Ok(socket) => return Ok(Channel::new(above_stdio(socket)?)),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                poll(&mut [], Some(&PAUSE))?;
            }
        }
    }
}

/// The same descriptor with a number above 2. Where the kernel had no console for PID 1, numbers 0 to 2 are free, and
/// the app's standard descriptors must not land on the agent's own.
fn above_stdio(socket: OwnedFd) -> io::Result<OwnedFd> {
    if socket.as_raw_fd() > 2 {
        return Ok(socket);
    }
    let moved = rustix::io::fcntl_dupfd_cloexec(&socket, 3)?;
    let mut low = socket;
    while low.as_raw_fd() <= 2 {
        // Kept open for good, as a place holder.
        let _ = low.into_raw_fd();
        low = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(moved)
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            incoming: Vec::new(),
            parsed: 0,
            outgoing: Vec::with_capacity(HEADER + CHUNK),
            sent: 0,
        }
    }

    /// A new connection in place of one that is gone, with what was on its way.
    ///
    /// # Errors
    /// The last answer of the kernel when the engine could not be reached for about two seconds.
    pub(crate) fn connect_again(&mut self) -> Result<(), ChannelError> {
        *self = connect().map_err(|error| {
            ChannelError::Socket(Errno::from_io_error(&error).unwrap_or(Errno::CONNRESET))
        })?;
        Ok(())
    }

    /// The socket, to poll on.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether bytes wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Puts a message behind what waits.
    pub(crate) fn queue(&mut self, message: &FromAgent) -> Result<(), ChannelError> {
        protocol::append(&mut self.outgoing, message).map_err(ChannelError::Message)
    }

    /// Reads once from `from` into a frame of `kind`, and returns the bytes read, 0 at the end. Nothing may be unsent,
    /// which bounds the frame by the buffer: one [`CHUNK`].
    pub(crate) fn queue_output(&mut self, kind: u8, from: impl AsFd) -> Result<usize, Errno> {
        self.outgoing.extend_from_slice(&[0; HEADER]);
        let read = rustix::io::read(from, spare_capacity(&mut self.outgoing));
        match (&read, protocol::header(kind, self.outgoing.len() - HEADER)) {
            (Ok(1..), Ok(header)) => self.outgoing[..HEADER].copy_from_slice(&header),
            _ => self.outgoing.clear(),
        }
        read
    }

    /// Sends what the socket takes without blocking.
    pub(crate) fn flush(&mut self) -> Result<(), ChannelError> {
        while self.has_unsent() {
            match send(&self.socket, &self.outgoing[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends everything, waiting for the engine where it must.
    pub(crate) fn flush_all(&mut self) -> Result<(), ChannelError> {
        loop {
            self.flush()?;
            if !self.has_unsent() {
                return Ok(());
            }
            self.wait(PollFlags::OUT)?;
        }
    }

    /// Takes what has arrived off the socket, once.
    pub(crate) fn fill(&mut self) -> Result<(), ChannelError> {
        if self.parsed > 0 {
            self.incoming.drain(..self.parsed);
            self.parsed = 0;
        }
        if self.incoming.capacity() - self.incoming.len() < HEADER {
            self.incoming.reserve(2048);
        }
        match recv(&self.socket, spare_capacity(&mut self.incoming), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(ChannelError::Closed),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next message that is wholly here.
    pub(crate) fn next(&mut self) -> Result<Option<ToAgent>, ChannelError> {
        let parsed = protocol::parse(&self.incoming[self.parsed..]).map_err(ChannelError::Message)?;
        Ok(parsed.map(|(message, length)| {
            self.parsed += length;
            message
        }))
    }

    /// The next message, waiting for it.
    pub(crate) fn wait_next(&mut self) -> Result<ToAgent, ChannelError> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            self.wait(PollFlags::IN)?;
            self.fill()?;
        }
    }

    fn wait(&self, events: PollFlags) -> Result<(), ChannelError> {
        match poll(&mut [PollFd::new(&self.socket, events)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        (Channel::new(ours.into()), theirs)
    }

    #[test]
    fn messages_in_pieces_are_put_together() {
        let (mut channel, mut engine) = pair();
        let mut bytes = Vec::new();
        protocol::append(&mut bytes, &ToAgent::Stdin(vec![7; 5000])).expect("framed");
        protocol::append(&mut bytes, &ToAgent::Signal(15)).expect("framed");
        let mut got = Vec::new();
        for piece in bytes.chunks(777) {
            engine.write_all(piece).expect("written");
            channel.fill().expect("filled");
            got.extend(std::iter::from_fn(|| channel.next().expect("parsed")));
        }
        assert_eq!(got, [ToAgent::Stdin(vec![7; 5000]), ToAgent::Signal(15)]);
        drop(engine);
        assert!(matches!(channel.fill(), Err(ChannelError::Closed)));
    }

    #[test]
    fn output_is_framed_in_place_and_waits_for_a_slow_engine() {
        let (mut channel, mut engine) = pair();
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        let mut queued = 0;
        // Nobody reads: the socket's buffer fills up, and then a frame stays unsent.
        while !channel.has_unsent() {
            writer.write_all(&[b'x'; 1000]).expect("written");
            queued += channel.queue_output(FromAgent::STDOUT, &reader).expect("read");
            channel.flush().expect("no error");
        }
        let reading = std::thread::spawn(move || {
            let mut total = 0;
            while let Some(message) = protocol::receive(&mut engine).expect("a frame") {
                let FromAgent::Stdout(bytes) = message else { panic!("{message:?}") };
                assert_eq!(bytes, [b'x'; 1000]);
                total += bytes.len();
            }
            total
        });
        channel.flush_all().expect("sent");
        drop(channel);
        assert_eq!(reading.join().expect("read to the end"), queued);
    }

    #[test]
    fn the_end_of_output_queues_nothing() {
        let (mut channel, _engine) = pair();
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(writer);
        assert_eq!(channel.queue_output(FromAgent::STDERR, &reader), Ok(0));
        assert!(!channel.has_unsent());
    }

    #[test]
    fn a_frame_too_long_ends_the_conversation() {
        let (mut channel, mut engine) = pair();
        engine.write_all(&u32::MAX.to_le_bytes()).expect("written");
        channel.fill().expect("filled");
        assert!(matches!(channel.next(), Err(ChannelError::Message(_))));
    }
}
