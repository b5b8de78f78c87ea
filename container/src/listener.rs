//! Seccomp filters that ask: the descriptor by which they do goes to an agent (runtime specification, "The Container
//! Process State").
//!
//! ```text
//!   the process              creator                        agent
//!      │ ── Listener(7) ──────▶ │
//!   seccomp(…) = 7              │ pidfd_getfd(7) until it is there
//!      │                        │ ── state, descriptor ────────▶ │
//!      │ ◀────────── Listening ─ │
//! ```
//!
//! The process says beforehand which number the descriptor will have, for afterwards any call of its may be one that is
//! asked about, and nobody there yet to answer.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::{Value, json};

use crate::seccomp::Listener;

/// How long the process may take to load its filter, and the agent to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A filter's listener that could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The descriptor cannot be had.
    #[error("linux.seccomp: cannot take the listener from the process: {0}; it takes CAP_SYS_PTRACE")]
    Take(io::Error),
    /// The process ended, or did not load its filter.
    #[error("linux.seccomp: the process did not load its filter")]
    NotLoaded,
    /// The agent cannot be told.
    #[error("linux.seccomp.listenerPath: {path}: {source}; the agent must listen there before")]
    Agent {
        /// Its socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// A process that is loading a filter that asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// Its id.
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
    /// The number that the descriptor has, or will have, there.
    pub(crate) number: i32,
}

/// Takes the descriptor and sends it to the agent, with what it is told: `state` is the container's, as JSON.
pub(crate) fn hand_over(
    process: Asking<'_>,
    agent: Option<&Listener>,
    oci_version: &str,
    state: &[u8],
) -> Result<(), ListenerError> {
    let Some(agent) = agent else { return Err(ListenerError::NotLoaded) };
    let descriptor = take(process)?;
    let state: Value = serde_json::from_slice(state).unwrap_or_default();
    let message = json!({
        "ociVersion": oci_version,
        "fds": ["seccompFd"],
        "pid": process.pid,
        "metadata": agent.metadata,
        "state": state,
    });
    send(agent, message.to_string().as_bytes(), descriptor.as_fd())
        .map_err(|source| ListenerError::Agent { path: agent.path.clone(), source })
}

/// A copy of the descriptor, once it is there.
fn take(process: Asking<'_>) -> Result<OwnedFd, ListenerError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match pidfd_getfd(process.pidfd, process.number, PidfdGetfdFlags::empty()) {
            Ok(descriptor) if is_listener(descriptor.as_fd()) => return Ok(descriptor),
            Ok(_) | Err(Errno::BADF) => {}
            Err(Errno::SRCH) => return Err(ListenerError::NotLoaded),
            Err(errno) => return Err(ListenerError::Take(errno.into())),
        }
        let mut ended = [PollFd::new(&process.pidfd, PollFlags::IN)];
        let soon = Timespec { tv_sec: 0, tv_nsec: 200_000 };
        if poll(&mut ended, Some(&soon)) == Ok(1) || Instant::now() > deadline {
            return Err(ListenerError::NotLoaded);
        }
    }
}

fn is_listener(descriptor: BorrowedFd<'_>) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str() == "anon_inode:seccomp notify")
}

fn send(agent: &Listener, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut stream = UnixStream::connect(&agent.path)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    let sent = sendmsg(&stream, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(message.get(sent..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;

    #[test]
    fn only_a_listener_is_taken() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_listener(null.as_fd()));
        let agent = Listener { path: "/no/agent".into(), metadata: String::new() };
        let error = send(&agent, b"{}", null.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let nobody = Asking { pid: 1, pidfd: pidfd.as_fd(), number: 0 };
        assert!(matches!(hand_over(nobody, None, "1.2.0", b"{}"), Err(ListenerError::NotLoaded)));
    }
}
