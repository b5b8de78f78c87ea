//! virtio-block: a disk backed by a raw file or block device (virtio 1.2, section 5.2).
//!
//! `request.rs` parses, `disk.rs` is the file, `device.rs` executes requests and answers them.

pub mod config;
pub mod device;
pub mod disk;
mod event_handler;
pub mod request;

pub use device::Block;
pub use disk::{BlockConfig, BlockError, Disk};
