//! virtio devices behind the virtio-mmio transport (virtio 1.2).
//!
//! * [`MmioTransport`] is what the guest sees on the bus: registers, feature negotiation, queue set-up, the
//!   status state machine. It owns everything that is the same for all devices.
//! * [`VirtioDevice`] is what a device model adds: its type, features, config space, and what it does with
//!   its queues.
//! * [`Attachment`] connects an activated device with the event loop thread.
//!
//! Every device folder holds the same files: `device.rs` (the model), `event_handler.rs` (which descriptor
//! wakes which part of it), `config.rs` (its config space), and one file per concept of its own.
//!
//! ```text
//!   vCPU thread                                event loop thread
//!   ───────────                                ─────────────────
//!   MMIO exit → Bus → MmioTransport            EventLoop → Attachment
//!                        │ activate, reset         │ on_queue, on_fd
//!                        └──► Mutex<dyn VirtioDevice> ◄┘
//!                                  │ VirtQueue: pop, add_used, signal
//!                                  └──► Interrupt → InterruptLine (an irqfd)
//! ```

pub mod attach;
pub mod balloon;
pub mod block;
pub mod chain;
mod config_space;
pub mod console;
pub mod device;
pub mod fs;
pub mod interrupt;
pub mod mmio;
pub mod net;
pub mod persist;
pub mod pmem;
pub mod queue_setup;
pub mod rate_limit;
pub mod rng;
pub mod segments;
pub mod status;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod testing;
pub mod vhost_user;
pub mod virtqueue;
pub mod vsock;

pub use attach::{Attachment, EventLoop};
pub use balloon::{Balloon, BalloonConfig};
pub use block::{Block, DiskConfig};
pub use console::Console;
pub use device::{Activation, Counter, EventHandler, QueuePosition, RestoreError, VirtioDevice, Watch};
pub use mmio::MmioTransport;
pub use net::{MacAddress, Net, NetConfig, Tap};
pub use persist::{PersistError, SavedDevice};
pub use pmem::Pmem;
pub use rate_limit::{RateLimiter, RateLimiterConfig, TokenBucketConfig};
pub use rng::Rng;
pub use vhost_user::VhostUser;
pub use vsock::{Vsock, VsockConfig};
