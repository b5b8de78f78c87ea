//! What a persistent memory device is made of, and its config space (virtio 1.2, section 5.19.4).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image file mapped into the guest's physical memory. Machines that use it read-only share the host's page cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PmemConfig {
    /// What the control API calls it.
    #[serde(default)]
    pub id: String,
    /// The file, with a file system on it.
    pub path: PathBuf,
    /// The file stays as it is: what the guest writes stays in its machine, is in no snapshot, and ends with it.
    #[serde(default)]
    pub read_only: bool,
    /// It is the guest's root file system.
    #[serde(default)]
    pub root_device: bool,
}

const LENGTH: usize = 16;

/// Where the image lies in guest physical memory, and its length, both in bytes.
pub fn config_space(start: u64, len: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&start.to_le_bytes());
    bytes[8..].copy_from_slice(&len.to_le_bytes());
    bytes
}
