//! What a disk is to be: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::virtio::rate_limit::RateLimiterConfig;

/// Most request queues of one disk; each costs the VMM a descriptor.
pub const MAX_QUEUES: u16 = 16;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Raw image file or block device.
    pub path: PathBuf,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
    /// Up to 20 bytes that the guest sees as the serial number, under `/sys/block/*/serial`.
    #[serde(default)]
    pub id: String,
    /// Request queues, 1 to [`MAX_QUEUES`]; a guest uses no more of them than it has vCPUs.
    #[serde(default = "one")]
    pub queues: u16,
    /// How the host reads and writes.
    #[serde(default)]
    pub io_engine: IoEngine,
    /// What a flush means.
    #[serde(default)]
    pub cache: CacheMode,
    /// How much the guest may do.
    #[serde(default)]
    pub rate_limiter: RateLimiterConfig,
}

fn one() -> u16 {
    1
}

impl DiskConfig {
    /// A writable disk with defaults for the rest.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read_only: false,
            id: String::new(),
            queues: one(),
            io_engine: IoEngine::default(),
            cache: CacheMode::default(),
            rate_limiter: RateLimiterConfig::default(),
        }
    }
}

/// How the host reads and writes a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoEngine {
    /// Through io_uring where the host has it (docs/decisions/0009-disks-through-io-uring.md).
    #[default]
    Auto,
    /// One request after the other, in the thread that serves all devices.
    Sync,
    /// Through io_uring: many at once, while other devices go on. Where the host has none, like [`Self::Sync`], with a
    /// warning.
    Async,
}

/// What a flush means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// What the guest has flushed survives the host's death.
    #[default]
    Writeback,
    /// The guest is told that it need not flush, and the host writes when it likes: for disks that nobody keeps.
    Unsafe,
}
