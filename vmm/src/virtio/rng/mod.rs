//! virtio-rng: random bytes of the host's for the guest (virtio 1.2, section 5.4).
//!
//! `fill.rs` fills buffers from getrandom(2), `device.rs` is the model. It has no config space and nothing that a
//! snapshot keeps: a clone gets other bytes than its template by itself.

pub mod device;
mod event_handler;
pub mod fill;

pub use device::Rng;
