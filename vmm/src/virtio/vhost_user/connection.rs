//! The socket to a backend: messages with descriptors out, replies in, none of it for longer than a deadline.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};

use super::VhostUserError;
use super::message::{self, HEADER, MAX_REGIONS, Request};

/// How long a backend that is being started may take until it listens, and how often that is tried.
const START: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

/// A connected socket that never blocks.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
}

impl Connection {
    /// Connects to `path`. A backend that is just being started may take a moment.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) fn open(path: &Path) -> Result<Self, VhostUserError> {
        let start = Instant::now();
        loop {
            match try_connect(path) {
                Ok(socket) => return Ok(Self { socket }),
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) if start.elapsed() < START => {
                    thread::sleep(RETRY);
                }
                Err(error) => {
                    return Err(VhostUserError::Connect { socket: path.into(), source: error.into() });
                }
            }
        }
    }

    /// Sends a message, the descriptors beside its first byte.
    ///
    /// # Errors
    /// The backend is gone, or takes no messages until `deadline`.
    pub(super) fn send(
        &self,
        request: Request,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), VhostUserError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_REGIONS))];
        let mut sent = 0;
        while let Some(rest) = message.get(sent..).filter(|rest| !rest.is_empty()) {
            self.wait(PollFlags::OUT, request, deadline)?;
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if sent == 0
                && !descriptors.is_empty()
                && !beside.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut beside, flags) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// The body of the reply to `request`. Descriptors that come with it are not taken.
    ///
    /// # Errors
    /// The backend is gone, says something else, or nothing until `deadline`.
    pub(super) fn receive(&self, request: Request, deadline: Instant) -> Result<Vec<u8>, VhostUserError> {
        let mut header = [0; HEADER];
        self.fill(&mut header, request, deadline)?;
        let len = message::reply_len(header, request).ok_or(VhostUserError::Garbage(request))?;
        let mut body = vec![0; len];
        self.fill(&mut body, request, deadline)?;
        Ok(body)
    }

    fn fill(&self, to: &mut [u8], request: Request, deadline: Instant) -> Result<(), VhostUserError> {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            self.wait(PollFlags::IN, request, deadline)?;
            match recv(&self.socket, rest, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(VhostUserError::Gone),
                Ok((count, _)) => done += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Waits until the socket is ready.
    fn wait(&self, ready: PollFlags, request: Request, deadline: Instant) -> Result<(), VhostUserError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if left.is_zero() {
            return Err(VhostUserError::Silent(request));
        }
        match poll(&mut [PollFd::new(&self.socket, ready)], Some(&timeout)) {
            Ok(0) => Err(VhostUserError::Silent(request)),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Whether there is something to read, or the end.
    pub(super) fn is_ready(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// The socket, to be handed over to whoever closes it.
    pub(super) fn into_socket(self) -> UnixStream {
        self.socket
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn try_connect(path: &Path) -> rustix::io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    // Connecting to a Unix socket whose queue is full would block.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

fn failed(error: Errno) -> VhostUserError {
    match error {
        Errno::PIPE | Errno::CONNRESET => VhostUserError::Gone,
        other => io::Error::from(other).into(),
    }
}
