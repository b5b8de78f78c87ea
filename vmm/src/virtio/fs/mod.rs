//! virtio-fs: a directory of the host, served by `virtiofsd` (virtio 1.2, section 5.11).
//!
//! The guest mounts it by its tag: `mount -t virtiofs TAG /mnt`. All of it is in the backend, see
//! [`super::vhost_user`]; here is only what the device says of itself.

pub mod config;

pub use config::FsConfig;
