//! Finds the instant of the first correct HTTP reply, by asking again and again.
//!
//! A refused attempt is followed by the next one after a pause, which is the resolution of the result: the period, or
//! one part in [`PARTS`] of the time probed so far where that is longer. Without the latter, an app that takes seconds
//! would spend them refusing connections, which costs an interpreted guest more than the start itself. An attempt that
//! hangs (a guest that drops the first packets, which TCP would repeat only after a second) is joined by another one
//! after [`OVERLAP`], up to [`MOST_AT_ONCE`]; then the oldest that has not connected gives way.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::ExecuteError;
use super::http::{self, Reply};
use super::poll::{system, wait};
use crate::clock::now_ns;

/// How long an attempt may hang before another one joins it.
const OVERLAP: Duration = Duration::from_millis(50);
/// A pause is at least the time probed so far, divided by this.
pub(super) const PARTS: u64 = 100;
/// How many attempts may be under way.
const MOST_AT_ONCE: usize = 8;

/// What a probe looks for.
pub(super) struct Probe<'a> {
    /// Where the app answers.
    pub address: SocketAddr,
    /// The path to ask for.
    pub path: &'a str,
    /// The least pause between two attempts.
    pub period: Duration,
}

/// How a probe ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// The first correct reply.
    Ready {
        /// When its last byte was there, in nanoseconds.
        at_ns: u64,
        /// Its body.
        body: Vec<u8>,
        /// How many attempts there were, this one included.
        attempts: u32,
    },
    /// The command ended before.
    Ended,
    /// Time is up.
    TimedOut,
}

/// An attempt under way.
struct Attempt {
    socket: OwnedFd,
    connected: bool,
    received: Vec<u8>,
}

/// What came of one step of an attempt.
enum Step {
    GoesOn,
    Failed,
    Ready(Vec<u8>),
}

impl Probe<'_> {
    /// Probes until `until_ns`, or until `command`, a pidfd, ends.
    pub(super) fn run(&self, command: Option<BorrowedFd<'_>>, until_ns: u64) -> Result<Probed, ExecuteError> {
        let began_ns = now_ns();
        let pause_ns = |now: u64| ns(self.period).max((now - began_ns) / PARTS);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut count = 0_u32;
        let mut next_ns = began_ns;
        loop {
            let now = now_ns();
            if now >= until_ns {
                return Ok(Probed::TimedOut);
            }
            if now >= next_ns {
                if attempts.len() >= MOST_AT_ONCE && !give_way(&mut attempts) {
                    // All have connected and will answer or fail; asking more would only load the app.
                    next_ns = until_ns;
                } else {
                    count += 1;
                    attempts.extend(self.begin()?);
                    next_ns = now + pause_ns(now).max(if attempts.is_empty() { 0 } else { ns(OVERLAP) });
                }
            }
            let Some(ready) = wait_for_any(&attempts, command, next_ns.min(until_ns))? else {
                return Ok(Probed::Ended);
            };
            for index in ready.into_iter().rev() {
                match attempts[index].step(self.path) {
                    Step::GoesOn => {}
                    Step::Ready(body) => return Ok(Probed::Ready { at_ns: now_ns(), body, attempts: count }),
                    Step::Failed => {
                        attempts.swap_remove(index);
                        let now = now_ns();
                        next_ns = next_ns.min(now + pause_ns(now));
                    }
                }
            }
        }
    }

    /// Starts to connect; `None` when that fails at once.
    fn begin(&self) -> Result<Option<Attempt>, ExecuteError> {
        let family = if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)
            .map_err(|e| system("make a socket for the probe")(e.into()))?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {
                Ok(Some(Attempt { socket, connected: false, received: Vec::new() }))
            }
            Err(_) => Ok(None),
        }
    }
}

impl Attempt {
    /// Goes on after its socket became ready.
    fn step(&mut self, path: &str) -> Step {
        if !self.connected {
            if !matches!(sockopt::socket_error(&self.socket), Ok(Ok(()))) {
                return Step::Failed;
            }
            // A new connection's buffer takes a request of this size whole.
            if rustix::io::write(&self.socket, http::request(path).as_bytes()).is_err() {
                return Step::Failed;
            }
            self.connected = true;
            return Step::GoesOn;
        }
        let mut buffer = [0_u8; 16 << 10];
        let read = match rustix::io::read(&self.socket, &mut buffer) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Step::GoesOn,
            Err(_) => return Step::Failed,
        };
        self.received.extend_from_slice(&buffer[..read]);
        match http::parse(&self.received, read == 0) {
            Reply::Correct(body) => Step::Ready(body),
            Reply::Wrong => Step::Failed,
            Reply::Partial if self.received.len() > http::LONGEST => Step::Failed,
            Reply::Partial => Step::GoesOn,
        }
    }
}

/// Drops the oldest attempt that has not connected; `false` when all have.
fn give_way(attempts: &mut Vec<Attempt>) -> bool {
    let hanging = attempts.iter().position(|attempt| !attempt.connected);
    if let Some(index) = hanging {
        attempts.remove(index);
    }
    hanging.is_some()
}

/// Waits for attempts to become ready and returns their indices in ascending order; `None` when `command` ended.
fn wait_for_any(
    attempts: &[Attempt],
    command: Option<BorrowedFd<'_>>,
    until_ns: u64,
) -> Result<Option<Vec<usize>>, ExecuteError> {
    let wanted = |attempt: &Attempt| if attempt.connected { PollFlags::IN } else { PollFlags::OUT };
    let mut fds: Vec<PollFd<'_>> =
        attempts.iter().map(|a| PollFd::from_borrowed_fd(a.socket.as_fd(), wanted(a))).collect();
    fds.extend(command.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    wait(&mut fds, until_ns)?;
    if command.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
        return Ok(None);
    }
    let ready = fds[..attempts.len()].iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(Some(ready.map(|(index, _)| index).collect()))
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    const SECOND: u64 = 1_000_000_000;

    fn probe(address: SocketAddr) -> Probe<'static> {
        Probe { address, path: "/", period: Duration::from_millis(1) }
    }

    /// Answers one connection after another with these replies.
    fn serve(listener: TcpListener, replies: Vec<&'static str>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = [0; 512];
                let read = stream.read(&mut request).expect("a request");
                assert!(request[..read].starts_with(b"GET / HTTP/1.0\r\n"));
                stream.write_all(reply.as_bytes()).expect("answered");
            }
        })
    }

    #[test]
    fn takes_the_first_correct_reply() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let wrong = "HTTP/1.1 503 Starting\r\n\r\n";
        let server = serve(listener, vec![wrong, wrong, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"]);
        let probed = probe(address).run(None, now_ns() + 10 * SECOND).expect("probes");
        assert!(matches!(&probed, Probed::Ready { body, attempts: 3, .. } if body == b"hi"), "{probed:?}");
        server.join().expect("served");
    }

    #[test]
    fn finds_a_server_that_starts_late() {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let server = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            let listener = TcpListener::bind(address).expect("the port again");
            let listening_ns = now_ns();
            serve(listener, vec!["HTTP/1.1 200 OK\r\n\r\n"]).join().expect("served");
            listening_ns
        });
        let probed = probe(address).run(None, now_ns() + 10 * SECOND).expect("probes");
        let listening_ns = server.join().expect("served");
        let Probed::Ready { at_ns, attempts, .. } = probed else { panic!("not ready: {probed:?}") };
        assert!(attempts > 3 && at_ns >= listening_ns, "{attempts} attempts");
    }

    #[test]
    fn a_hanging_attempt_does_not_hold_up_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let hanging = listener.accept().expect("the first connection");
            serve(listener, vec!["HTTP/1.1 200 OK\r\n\r\nlate"]).join().expect("served");
            drop(hanging);
        });
        let probed = probe(address).run(None, now_ns() + 10 * SECOND).expect("probes");
        assert!(matches!(&probed, Probed::Ready { body, .. } if body == b"late"), "{probed:?}");
        server.join().expect("served");
    }

    #[test]
    fn gives_up_in_time() {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        assert_eq!(probe(address).run(None, now_ns() + SECOND / 50).expect("probes"), Probed::TimedOut);
    }
}
