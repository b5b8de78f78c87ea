//! virtio-pmem: an image file in the guest's physical memory (virtio 1.2, section 5.19).
//!
//! The guest reads and writes the file without the device, which only says where it lies and makes writes durable.
//! What is mapped, and where, is in [`crate::memory`]. `request.rs` parses, `device.rs` flushes and answers.

pub mod config;
pub mod device;
mod event_handler;
pub mod request;

pub use config::PmemConfig;
pub use device::Pmem;
