//! How large an instance is on the wire and on disk.

use serde::{Deserialize, Serialize};

/// Bytes of one image in one model. What the binary did not report is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The layers as they travel, compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_bytes: Option<u64>,
    /// The layers as they are stored, shared by all instances of both models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// The thin read-write layer of the one instance, once ready, as allocated on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_bytes: Option<u64>,
    /// The guest kernel and its initramfs, shared by all VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_bytes: Option<u64>,
}
