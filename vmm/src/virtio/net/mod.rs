//! virtio-net: a network card on a tap device (virtio 1.2, section 5.1).
//!
//! Frames go between the tap and guest memory without a copy of ours. Each starts with the 12-byte header
//! that guest and host kernel both know, so segments of up to 64 KiB and unfinished checksums pass through as
//! they are: the less a guest has to cut up, the better, above all where its kernel runs slowly.
//!
//! `receive.rs` and `transmit.rs` are the two directions, `tap.rs` the host's side, `offloads.rs` what is left to whom,
//! `device.rs` the model. A snapshot keeps nothing of a card but features and queues: activating it on another tap is
//! all that a restore takes.

pub mod config;
pub mod counts;
pub mod device;
mod event_handler;
pub mod mac;
pub mod offloads;
pub mod receive;
pub mod tap;
pub mod transmit;

pub use config::{NetConfig, TapSource};
pub use device::{Net, NetError};
pub use mac::{MacAddress, MacAddressError};
pub use tap::{FrameIo, Tap, TapError};
