//! virtio-balloon: memory that the guest does without goes back to the host (virtio 1.2, section 5.5).
//!
//! The host asks for a size ([`Balloon::set_target_mib`]) and the guest's driver puts as many pages into the balloon.
//! With free page reporting the guest tells of free memory by itself, a little after it became free. Either way
//! [`crate::memory`] gives the pages back; they come again, zero, when the guest touches them.
//!
//! `pages.rs` reads page numbers, `statistics.rs` what the guest tells of its memory and when it is asked, `config.rs` is
//! what a balloon is made of and its config space, `persist.rs` what a snapshot keeps, `device.rs` the model.

pub mod config;
pub mod device;
mod event_handler;
pub mod pages;
mod persist;
pub mod statistics;

pub use config::BalloonConfig;
pub use device::{Balloon, BalloonError};
pub use statistics::{BalloonStats, GuestStats};
