//! What a vsock device is made of, and its config space (virtio 1.2, section 5.10.4): the guest's CID.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A socket device in the hybrid form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockConfig {
    /// The guest's context id, from 3 on. It need not be unique on the host: each device has its own socket.
    pub cid: u32,
    /// The Unix socket where host clients connect; programs that wait for the guest listen at this path with `_PORT`
    /// appended.
    pub uds_path: PathBuf,
    /// What that path is called once the machine runs, if its process has another root by then. Nothing but this path
    /// with `_PORT` appended, and the path itself when the device is taken down, is looked up from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_in_jail: Option<PathBuf>,
}

impl VsockConfig {
    /// A device whose clients connect at `uds_path`.
    pub fn new(cid: u32, uds_path: impl Into<PathBuf>) -> Self {
        Self { cid, uds_path: uds_path.into(), path_in_jail: None }
    }

    /// The path by which the running machine knows its socket.
    pub fn running_path(&self) -> &Path {
        self.path_in_jail.as_deref().unwrap_or(&self.uds_path)
    }
}

/// The bytes of the config space.
pub fn config_space(cid: u32) -> [u8; 8] {
    u64::from(cid).to_le_bytes()
}
