//! What a vsock device is made of, and its config space (virtio 1.2, section 5.10.4): the guest's CID.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A socket device in the hybrid form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockConfig {
    /// The guest's context id, from 3 on. It need not be unique on the host: each device has its own socket.
    pub cid: u32,
    /// The Unix socket where host clients connect; programs that wait for the guest listen at this path with `_PORT`
    /// appended. Nothing else of the host's file system is looked at once the device is made, and no more of it than this
    /// path says: a relative one means what it means to the process at the time.
    pub uds_path: PathBuf,
}

impl VsockConfig {
    /// A device whose clients connect at `uds_path`.
    pub fn new(cid: u32, uds_path: impl Into<PathBuf>) -> Self {
        Self { cid, uds_path: uds_path.into() }
    }
}

/// The bytes of the config space.
pub fn config_space(cid: u32) -> [u8; 8] {
    u64::from(cid).to_le_bytes()
}
