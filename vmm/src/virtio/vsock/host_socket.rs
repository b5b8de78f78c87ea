//! The Unix sockets on the host's side: the listener, its `CONNECT` line, and connecting on behalf of the
//! guest.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Longest line accepted: `CONNECT 4294967295\n` with room for spare blanks.
const MAX_LINE: usize = 32;

/// The listening socket; its path disappears with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`. A socket that a dead process has left there is replaced.
    ///
    /// # Errors
    ///
    /// The path is taken, too long (107 bytes is the most) or not writable.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            other => other,
        }?;
        let listener = Self { socket, path: path.to_owned() };
        listener.socket.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// The next waiting client, without blocking.
    pub fn accept(&self) -> Option<UnixStream> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        return Some(stream);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "cannot accept a client");
                    return None;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already if the directory was cleaned up.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_abandoned(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Connects to `<base>_<port>`, where a host program waits for the guest. Never blocks: a full backlog is an
/// error.
///
/// # Errors
///
/// Nobody listens there.
pub fn connect(base: &Path, port: u32) -> io::Result<UnixStream> {
    let mut path = OsString::from(base);
    path.push(format!("_{port}"));
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// How far a client's `CONNECT` line has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The rest of the line has not arrived yet.
    Incomplete,
    /// The client wants this port of the guest. The line, and nothing after it, was taken out of the stream.
    Connect(u32),
    /// It said something else, or left.
    Refused,
}

/// Reads the `CONNECT <port>\n` line off a client's stream.
pub fn handshake(stream: &mut UnixStream) -> Handshake {
    let mut line = [0; MAX_LINE];
    let seen = match rustix::net::recv(&*stream, &mut line[..], RecvFlags::PEEK) {
        Ok((0, _)) => return Handshake::Refused,
        Ok((_, seen)) => seen.min(MAX_LINE),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Handshake::Incomplete,
        Err(_) => return Handshake::Refused,
    };
    let Some(end) = line[..seen].iter().position(|&byte| byte == b'\n') else {
        return if seen < MAX_LINE { Handshake::Incomplete } else { Handshake::Refused };
    };
    if stream.read_exact(&mut line[..=end]).is_err() {
        return Handshake::Refused;
    }
    match std::str::from_utf8(&line[..end]).ok().and_then(parse_connect) {
        Some(port) => Handshake::Connect(port),
        None => Handshake::Refused,
    }
}

fn parse_connect(line: &str) -> Option<u32> {
    let mut words = line.split_ascii_whitespace();
    let (verb, port, end) = (words.next()?, words.next()?, words.next());
    (verb.eq_ignore_ascii_case("connect") && end.is_none()).then(|| port.parse().ok())?
}

/// Whether the client has closed its end and left nothing to read.
pub fn has_left(stream: &UnixStream) -> bool {
    let mut byte = [0; 1];
    matches!(rustix::net::recv(stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, 0)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn takes_the_connect_line_and_nothing_after_it() {
        let cases: [(&[u8], Handshake, &[u8]); 9] = [
            (b"CONNECT 52\nhello", Handshake::Connect(52), b"hello"),
            (b"connect 4294967295\n", Handshake::Connect(u32::MAX), b""),
            (b"CONNECT 5", Handshake::Incomplete, b"CONNECT 5"),
            (b"CONNECT 4294967296\n", Handshake::Refused, b""),
            (b"CONNECT -1\n", Handshake::Refused, b""),
            (b"CONNECT 1 2\n", Handshake::Refused, b""),
            (b"GET / HTTP/1.1\r\n", Handshake::Refused, b""),
            (b"\xff\xfe\n", Handshake::Refused, b""),
            (&[b'x'; 40], Handshake::Refused, &[b'x'; 40]),
        ];
        for (sent, wanted, left) in cases {
            let (mut client, mut ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            client.write_all(sent).unwrap();
            assert_eq!(handshake(&mut ours), wanted, "{}", String::from_utf8_lossy(sent));
            drop(client);
            let mut rest = Vec::new();
            ours.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, left, "{}", String::from_utf8_lossy(sent));
        }
    }

    #[test]
    fn notices_a_client_that_left() {
        let (mut client, mut ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(handshake(&mut ours), Handshake::Incomplete);
        assert!(!has_left(&ours));
        client.write_all(b"x").unwrap();
        drop(client);
        assert!(!has_left(&ours), "there is still a byte to read");
        ours.read_exact(&mut [0]).unwrap();
        assert!(has_left(&ours));
        assert_eq!(handshake(&mut ours), Handshake::Refused);
    }

    #[test]
    fn the_listener_cleans_up_and_replaces_what_a_dead_one_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.sock");
        drop(Listener::bind(&path).unwrap());
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let _live = Listener::bind(&path).unwrap();
        assert_eq!(Listener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "the live one's socket stays");
    }
}
