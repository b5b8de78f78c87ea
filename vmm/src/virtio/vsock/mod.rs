//! virtio-vsock in the hybrid form: stream sockets of the guest are Unix sockets of the host (virtio 1.2,
//! section 5.10; the host's side is the one that Firecracker documents).
//!
//! * Host to guest: connect to the device's socket, send `CONNECT <port>\n`, read `OK <host port>\n`; then it
//!   is a stream.
//! * Guest to host: a connect to CID 2, port P, arrives at the Unix socket `<path>_<P>`.
//!
//! `header.rs` is the packet format, `connection.rs` one stream (its state machine and credit), `muxer.rs`
//! all of them, `host_socket.rs` the Unix sockets, `events.rs` what a guest is told after a restore, `device.rs` the
//! queues. Packets are parsed here and not by
//! the `virtio-vsock` crate, which wants a packet's data in one descriptor; newer Linux guests spread it over
//! many.

pub mod config;
pub mod connection;
pub mod counts;
pub mod credit;
pub mod device;
mod event_handler;
pub mod events;
pub mod header;
pub mod host_socket;
pub mod muxer;
pub mod persist;

pub use config::VsockConfig;
pub use device::{Vsock, VsockError};
