//! A disk that another process serves (vhost-user-blk): the device of [`crate::virtio::block`] with its features and
//! config space from the backend.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};

use super::device::{ConfigSpace, Kind};
use super::{MAX_REQUEST_QUEUES, VhostUser, VhostUserError};
use crate::memory::GuestMemory;
use crate::virtio::device::device_type;

/// Descriptors in a request queue.
const QUEUE_SIZE: u16 = 256;
/// Bytes of the config space, up to the limits of write-zeroes (virtio 1.2, section 5.2.4).
const CONFIG: usize = 60;
/// Where it says how many queues there are.
const NUM_QUEUES: usize = 34;
/// Features that leave all to the backend. Those that are not here need something of this side, or are no use: QEMU's
/// storage daemon offers a limit to a segment's size (SIZE_MAX), and the limit is 0.
const FEATURES: u64 = 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_RO
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// A disk that another process serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostUserBlockConfig {
    /// What the control API calls it.
    #[serde(default)]
    pub id: String,
    /// The Unix socket where the backend listens.
    pub socket: PathBuf,
    /// Request queues; the backend must have that many.
    #[serde(default = "one")]
    pub queues: usize,
}

fn one() -> usize {
    1
}

impl VhostUserBlockConfig {
    /// A disk with one queue.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { id: String::new(), socket: socket.into(), queues: 1 }
    }

    /// Connects to the backend.
    ///
    /// # Errors
    /// There is none, or it cannot do what is needed.
    pub(crate) fn connect(&self, memory: &GuestMemory) -> Result<VhostUser, VhostUserError> {
        if !(1..=MAX_REQUEST_QUEUES).contains(&self.queues) {
            return Err(VhostUserError::Queues(self.queues));
        }
        // No more than MAX_REQUEST_QUEUES. The backend may have more than this machine wants.
        let queues = u16::try_from(self.queues).unwrap_or(u16::MAX);
        let several = if self.queues > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
        let kind = Kind {
            device_type: device_type::BLOCK,
            features: FEATURES | several,
            queue_sizes: vec![QUEUE_SIZE; self.queues],
            // A guest uses no more of them than it has vCPUs.
            required_queues: 1,
            config: ConfigSpace::Backend { len: CONFIG, ours: (NUM_QUEUES, queues.to_le_bytes().to_vec()) },
        };
        VhostUser::connect(kind, &self.socket, memory)
    }
}
