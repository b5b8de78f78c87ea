//! What a snapshot keeps of the socket device: no connections. Their other ends stay with the machine that was saved.

use serde::{Deserialize, Serialize};

/// The state besides features and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockState {
    /// The next port of the host's to be used. Going on from there keeps a new connection from having the name of one
    /// that the guest does not know to be gone yet.
    pub next_host_port: u32,
}
