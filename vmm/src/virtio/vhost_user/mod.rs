//! vhost-user: a virtio device whose queues another process on this host serves, the *backend* (QEMU's docs/interop/
//! vhost-user.rst, where this side is the "front-end").
//!
//! ```text
//!   guest ──notify──► kick eventfd ──────────────────────────► backend
//!     ▲                                                          │ rings and buffers, in shared guest memory
//!     └─ Interrupt ◄── VhostUser::on_fd ◄── call eventfd ◄───────┘
//!   transport: activate, reset ──► VhostUser ──► Backend ──► Connection ──socket──► backend
//! ```
//!
//! `message.rs` is the wire format, `connection.rs` the socket, `backend.rs` the requests, `device.rs` the device that
//! the transport sees. The kinds of device are in [`super::fs`] and `block.rs`.
//!
//! The backend gets the guest's memory, so it is trusted with the guest, but not with the VMM: each exchange with it ends
//! after [`PATIENCE`] at the latest, whatever it sends or does not send, and a backend that is gone leaves a device that
//! is dead in a machine that lives. (The `vhost` crate's front end waits for a silent backend forever, and a timeout
//! on its socket makes it spin; hence a small one of our own.)

mod backend;
pub mod block;
mod connection;
pub mod device;
mod event_handler;
mod message;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod testing;

use std::path::PathBuf;
use std::time::Duration;

pub use block::VhostUserBlockConfig;
pub use device::VhostUser;
pub use message::Request;

/// Most request queues of a device.
pub(crate) const MAX_REQUEST_QUEUES: usize = 63;
/// How long one exchange with a backend may take: connecting to it, starting or stopping its queues.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a backend cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// Nobody listens at the socket.
    #[error(
        "cannot connect to the vhost-user backend at {socket}: {source}; start it first, with this socket"
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// It did not answer.
    #[error("the vhost-user backend does not answer to {0:?}")]
    Silent(Request),
    /// It is gone.
    #[error("the vhost-user backend is gone")]
    Gone,
    /// The socket failed.
    #[error("cannot speak with the vhost-user backend: {0}")]
    Socket(#[from] std::io::Error),
    /// What it said is not an answer.
    #[error("the vhost-user backend answers to {0:?} with something else")]
    Garbage(Request),
    /// It did not do what it was asked for.
    #[error("the vhost-user backend refuses {0:?}")]
    Refused(Request),
    /// It cannot do what is needed.
    #[error("the vhost-user backend at {socket} lacks {what}")]
    Lacks {
        /// The socket.
        socket: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// The guest's memory is this process's own.
    #[error(
        "a vhost-user device needs memory that its backend can share: boot the machine with memory in a file, not from a \
         snapshot and not anonymous"
    )]
    NotShared,
    /// The tag of a file system does not fit.
    #[error("the tag {0:?} of a shared directory must have 1 to 36 bytes")]
    Tag(String),
    /// The number of queues is out of range.
    #[error("{0} request queues were asked for; 1 to {MAX_REQUEST_QUEUES} are possible")]
    Queues(usize),
}
