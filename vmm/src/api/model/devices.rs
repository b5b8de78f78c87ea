//! `/vsock`, `/entropy`, `/balloon`, `/pmem/{id}`, `/serial`: the devices with few fields.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{BalloonConfig, PmemConfig, RateLimiterConfig, TokenBucketConfig};

/// The socket device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context id, 3 or more.
    pub guest_cid: u32,
    /// The Unix socket on the host.
    pub uds_path: PathBuf,
    /// Old clients send it; it means nothing.
    #[serde(default, skip_serializing)]
    pub vsock_id: Option<String>,
}

/// The entropy device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// How many bytes and requests it serves in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiterConfig>,
}

/// The memory balloon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// Memory that the guest is to give back, in MiB.
    pub amount_mib: u32,
    /// The guest may take memory back before it runs out.
    pub deflate_on_oom: bool,
    /// Seconds between statistics; 0 for none.
    #[serde(default)]
    pub stats_polling_interval_s: u16,
    /// The guest says on request which pages it does not use.
    #[serde(default)]
    pub free_page_hinting: bool,
    /// The guest says by itself which pages it does not use.
    #[serde(default)]
    pub free_page_reporting: bool,
}

impl Balloon {
    /// The balloon for the machine.
    pub(crate) fn to_config(&self) -> BalloonConfig {
        BalloonConfig {
            amount_mib: self.amount_mib,
            deflate_on_oom: self.deflate_on_oom,
            stats_polling_interval_s: self.stats_polling_interval_s,
            free_page_reporting: self.free_page_reporting,
        }
    }

    /// The balloon of a machine as the API shows it.
    pub(crate) fn of(config: &BalloonConfig) -> Self {
        Self {
            amount_mib: config.amount_mib,
            deflate_on_oom: config.deflate_on_oom,
            stats_polling_interval_s: config.stats_polling_interval_s,
            free_page_hinting: false,
            free_page_reporting: config.free_page_reporting,
        }
    }
}

/// Another size for the balloon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonUpdate {
    /// Memory that the guest is to give back, in MiB.
    pub amount_mib: u32,
}

/// Another interval for the balloon's statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonStatsUpdate {
    /// Seconds.
    pub stats_polling_interval_s: u16,
}

/// A persistent memory device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pmem {
    /// Its name, the one in the path.
    pub id: String,
    /// The image file.
    pub path_on_host: PathBuf,
    /// The root file system is on it.
    #[serde(default)]
    pub root_device: bool,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
}

impl Pmem {
    /// The device for the machine.
    pub(crate) fn to_config(&self) -> PmemConfig {
        PmemConfig {
            id: self.id.clone(),
            path: self.path_on_host.clone(),
            read_only: self.read_only,
            root_device: self.root_device,
        }
    }

    /// Device `index` of a machine as the API shows it.
    pub(crate) fn of(config: &PmemConfig, index: usize) -> Self {
        Self {
            id: if config.id.is_empty() { format!("pmem{index}") } else { config.id.clone() },
            path_on_host: config.path.clone(),
            read_only: config.read_only,
            root_device: config.root_device,
        }
    }
}

/// Where the serial port leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// A file or FIFO for what the guest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_out_path: Option<PathBuf>,
    /// Of the output, which is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<TokenBucketConfig>,
}
