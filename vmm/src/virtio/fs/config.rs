//! What a file system device is made of, and its config space (virtio 1.2, section 5.11.4).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::memory::GuestMemory;
use crate::virtio::device::device_type;
use crate::virtio::vhost_user::device::{ConfigSpace, Kind};
use crate::virtio::vhost_user::{MAX_REQUEST_QUEUES, VhostUser, VhostUserError};

/// Descriptors in a queue.
const QUEUE_SIZE: u16 = 1024;
/// Bytes of a tag, padded with zeros.
const TAG: usize = 36;

/// A directory of the host that `virtiofsd` serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsConfig {
    /// The name by which the guest mounts it, 1 to 36 bytes.
    pub tag: String,
    /// The Unix socket where virtiofsd listens.
    pub socket: PathBuf,
    /// Request queues, besides the one for urgent requests; the backend must have that many.
    #[serde(default = "one")]
    pub queues: usize,
}

fn one() -> usize {
    1
}

impl FsConfig {
    /// A directory with one request queue.
    pub fn new(tag: impl Into<String>, socket: impl Into<PathBuf>) -> Self {
        Self { tag: tag.into(), socket: socket.into(), queues: 1 }
    }

    /// Connects to the backend.
    ///
    /// # Errors
    /// There is none, it cannot do what is needed, or the tag does not fit.
    pub(crate) fn connect(&self, memory: &GuestMemory) -> Result<VhostUser, VhostUserError> {
        if self.tag.is_empty() || self.tag.len() > TAG || self.tag.contains('\0') {
            return Err(VhostUserError::Tag(self.tag.clone()));
        }
        if !(1..=MAX_REQUEST_QUEUES).contains(&self.queues) {
            return Err(VhostUserError::Queues(self.queues));
        }
        let kind = Kind {
            device_type: device_type::FS,
            features: 0,
            queue_sizes: vec![QUEUE_SIZE; self.queues + 1],
            // The urgent one and one for requests: newer guests use no more of these than they have vCPUs.
            required_queues: 2,
            config: ConfigSpace::Here(self.config_space()),
        };
        VhostUser::connect(kind, &self.socket, memory)
    }

    fn config_space(&self) -> Vec<u8> {
        let mut bytes = self.tag.as_bytes().to_vec();
        bytes.resize(TAG, 0);
        bytes.extend(u32::try_from(self.queues).unwrap_or(u32::MAX).to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{layout::MIB, map_guest_ram};

    #[test]
    fn the_config_space_is_the_tag_and_the_number_of_queues() {
        let space = FsConfig { queues: 3, ..FsConfig::new("shared", "/s") }.config_space();
        assert_eq!((space.len(), &space[..7], &space[36..]), (40, &b"shared\0"[..], &[3, 0, 0, 0][..]));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anybody_is_asked() {
        let memory = map_guest_ram(MIB).unwrap();
        for tag in ["", "a tag of thirty-seven bytes is too lon", "a\0b"] {
            let error = FsConfig::new(tag, "/nowhere").connect(&memory).unwrap_err();
            assert!(matches!(error, VhostUserError::Tag(_)), "{error}");
        }
        for queues in [0, 64, usize::MAX] {
            let error = FsConfig { queues, ..FsConfig::new("t", "/nowhere") }.connect(&memory).unwrap_err();
            assert!(matches!(error, VhostUserError::Queues(_)), "{error}");
        }
    }
}
