//! How a program's terminal leaves the container: its master side is sent through a socket (cmsg(3), `SCM_RIGHTS`), to
//! somebody else's with a name, or to our own for a program in the foreground.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with, socketpair,
};

/// What is sent along with the descriptor: the name under which other runtimes open it.
const NAME: &[u8] = b"/dev/ptmx";

/// A terminal that nobody would take, or one that would not come.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is to be a terminal, and nobody to take it.
    #[error(
        "process.terminal is true, so somebody must take the terminal; give a console socket, or stay in the \
         foreground"
    )]
    Missing,
    /// Somebody waits for a terminal that there is not to be.
    #[error(
        "a console socket is of use only where process.terminal is true; leave it out, or ask for a terminal"
    )]
    Unused,
    /// The socket cannot be connected to.
    #[error("cannot connect to the console socket {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The terminal cannot be received.
    #[error("cannot take the program's terminal: {0}")]
    Receive(io::Error),
}

/// The two ends of a terminal's way.
#[derive(Debug)]
pub(crate) struct Console {
    /// For the process in the container.
    pub(crate) theirs: OwnedFd,
    /// For this process, unless it is somebody else's.
    pub(crate) ours: Option<OwnedFd>,
}

impl Console {
    /// The way for a program that is to have a terminal or not (`wanted`): to the socket, or in the foreground to this
    /// process.
    pub(crate) fn choose(
        wanted: bool,
        socket: Option<&Path>,
        foreground: bool,
    ) -> Result<Option<Self>, ConsoleError> {
        match (wanted, socket) {
            (false, None) => Ok(None),
            (false, Some(_)) => Err(ConsoleError::Unused),
            (true, Some(path)) => {
                let theirs = connect_to(path)
                    .map_err(|errno| ConsoleError::Connect { path: path.to_owned(), source: errno.into() })?;
                Ok(Some(Self { theirs, ours: None }))
            }
            (true, None) if foreground => {
                let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
                let (ours, theirs) = pair.map_err(|errno| ConsoleError::Receive(errno.into()))?;
                Ok(Some(Self { theirs, ours: Some(ours) }))
            }
            (true, None) => Err(ConsoleError::Missing),
        }
    }
}

/// By way of its directory: a socket's path may have 107 bytes (unix(7)).
fn connect_to(path: &Path) -> Result<OwnedFd, Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let dir = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Sends a terminal's master side.
pub(crate) fn send_master(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [master];
    if !control.push(SendAncillaryMessage::ScmRights(&rights)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(NAME)], &mut control, SendFlags::NOSIGNAL).map(|_| ())
}

/// Takes the master side that was sent.
pub(crate) fn receive_master(socket: BorrowedFd<'_>) -> Result<OwnedFd, ConsoleError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|errno| ConsoleError::Receive(errno.into()))?;
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    master.ok_or_else(|| ConsoleError::Receive(io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_terminal_and_who_takes_it_belong_together() {
        let socket = Path::new("/no/such/socket");
        assert!(Console::choose(false, None, true).unwrap().is_none());
        assert!(matches!(Console::choose(true, None, false), Err(ConsoleError::Missing)));
        assert!(matches!(Console::choose(false, Some(socket), true), Err(ConsoleError::Unused)));
        assert!(matches!(Console::choose(true, Some(socket), false), Err(ConsoleError::Connect { .. })));
    }

    #[test]
    fn a_descriptor_arrives_in_the_foreground() {
        let console = Console::choose(true, None, true).unwrap().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send_master(console.theirs.as_fd(), writer.as_fd()).unwrap();
        let received = receive_master(console.ours.as_ref().unwrap().as_fd()).unwrap();
        rustix::io::write(&received, b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]).unwrap(), 1);
        drop(console.theirs);
        assert!(receive_master(console.ours.unwrap().as_fd()).is_err());
    }

    #[test]
    fn a_socket_may_have_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let listener = {
            let dir = std::fs::File::open(&deep).unwrap();
            UnixListener::bind(format!("/proc/self/fd/{}/s", dir.as_raw_fd())).unwrap()
        };
        assert!(Console::choose(true, Some(&deep.join("s")), false).unwrap().is_some());
        listener.accept().unwrap();
    }
}
