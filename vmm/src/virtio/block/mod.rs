//! virtio-block: a disk backed by a raw file or block device (virtio 1.2, section 5.2).
//!
//! `request.rs` parses, `model.rs` executes and answers, `disk.rs` and `zeroes.rs` are the host's file, `device.rs` owns the
//! queues, `serving.rs` serves them, `async_io.rs` holds the requests that are in a ring.

mod async_io;
pub mod config;
mod counters;
pub mod device;
pub mod disk;
pub mod disk_config;
mod event_handler;
mod model;
pub mod request;
mod serving;
mod zeroes;

pub use device::Block;
pub use disk::{BlockError, Disk};
pub use disk_config::{CacheMode, DiskConfig, IoEngine};
