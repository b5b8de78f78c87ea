//! virtio-console: hvc0 in the guest, one port (virtio 1.2, section 5.3).
//!
//! `receive.rs` and `transmit.rs` are the two directions between the queues and a [`crate::console::HostEnd`],
//! `config.rs` is the config space, `persist.rs` what a snapshot keeps, `device.rs` the model.
//!
//! While the host's side takes nothing, what the guest has queued stays queued. Linux sends the kernel's own messages
//! with a lock held and waits for each, so such a guest stands still until the reader goes on.

pub mod config;
pub mod device;
mod event_handler;
mod persist;
mod receive;
mod transmit;

pub use device::Console;
