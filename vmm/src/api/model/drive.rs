//! `/drives/{drive_id}`: disks.

use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::config::{CacheMode, DiskConfig, IoEngine, RateLimiterConfig};

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Its name, the one in the path.
    pub drive_id: String,
    /// The root file system is on it.
    pub is_root_device: bool,
    /// Of the root file system's partition, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partuuid: Option<String>,
    /// What a flush means.
    #[serde(default)]
    pub cache_type: CacheType,
    /// The guest may not write. Firecracker wants it said; without it the disk is writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_read_only: Option<bool>,
    /// File or block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_on_host: Option<String>,
    /// How much the guest may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiterConfig>,
    /// How the host reads and writes; ours to choose if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_engine: Option<DriveEngine>,
    /// Of a vhost-user back end, which is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// What a flush means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheType {
    /// Nothing: the host writes when it likes.
    #[default]
    Unsafe,
    /// What was flushed survives the host's death.
    Writeback,
}

/// How the host reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveEngine {
    /// One request after the other.
    Sync,
    /// Through `io_uring`.
    Async,
}

/// A change of a disk that the guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriveUpdate {
    /// Its name, the one in the path.
    pub drive_id: String,
    /// Another file.
    #[serde(default)]
    pub path_on_host: Option<String>,
    /// Other limits; those that are not named stay.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiterConfig>,
}

impl Drive {
    /// The disk for the machine.
    ///
    /// # Errors
    /// It has no file of its own.
    pub(crate) fn to_config(&self) -> Result<DiskConfig, ModelError> {
        if self.socket.is_some() {
            return Err(ModelError::NotAvailable("drives with a vhost-user socket; give a path_on_host"));
        }
        let path = self
            .path_on_host
            .as_deref()
            .ok_or_else(|| ModelError::DriveWithoutPath(self.drive_id.clone()))?;
        let mut config = DiskConfig::new(path);
        config.id.clone_from(&self.drive_id);
        config.read_only = self.is_read_only.unwrap_or(false);
        config.cache = match self.cache_type {
            CacheType::Unsafe => CacheMode::Unsafe,
            CacheType::Writeback => CacheMode::Writeback,
        };
        config.io_engine = match self.io_engine {
            None => IoEngine::Auto,
            Some(DriveEngine::Sync) => IoEngine::Sync,
            Some(DriveEngine::Async) => IoEngine::Async,
        };
        config.rate_limiter = self.rate_limiter.unwrap_or_default();
        Ok(config)
    }

    /// The disk `index` of a machine as the API shows it.
    pub(crate) fn of(config: &DiskConfig, index: usize) -> Self {
        let limits = config.rate_limiter;
        Self {
            drive_id: if config.id.is_empty() { format!("drive{index}") } else { config.id.clone() },
            is_root_device: false,
            partuuid: None,
            cache_type: match config.cache {
                CacheMode::Unsafe => CacheType::Unsafe,
                CacheMode::Writeback => CacheType::Writeback,
            },
            is_read_only: Some(config.read_only),
            path_on_host: Some(config.path.display().to_string()),
            rate_limiter: (limits != RateLimiterConfig::default()).then_some(limits),
            io_engine: match config.io_engine {
                IoEngine::Auto => None,
                IoEngine::Sync => Some(DriveEngine::Sync),
                IoEngine::Async => Some(DriveEngine::Async),
            },
            socket: None,
        }
    }

    /// What the kernel is told of a root device; nothing of another.
    pub(crate) fn root_args(&self) -> Option<String> {
        let root = self.partuuid.as_ref().map_or("/dev/vda".to_owned(), |id| format!("PARTUUID={id}"));
        let mode = if self.is_read_only == Some(true) { "ro" } else { "rw" };
        self.is_root_device.then(|| format!("root={root} {mode}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_of_the_api_is_a_disk_of_the_machine_and_back() {
        let text = r#"{"drive_id": "d", "path_on_host": "f", "is_root_device": false, "is_read_only": true,
            "cache_type": "Writeback", "io_engine": "Async",
            "rate_limiter": {"ops": {"size": 5, "refill_time": 100}}}"#;
        let drive: Drive = serde_json::from_str(text).unwrap();
        let disk = drive.to_config().unwrap();
        assert_eq!(
            (disk.cache, disk.io_engine, disk.read_only),
            (CacheMode::Writeback, IoEngine::Async, true)
        );
        assert_eq!(disk.rate_limiter.ops.unwrap().size, 5);
        assert_eq!(Drive::of(&disk, 0), drive);
    }

    #[test]
    fn the_root_device_may_be_a_partition() {
        let drive = |rest: &str| -> Drive {
            serde_json::from_str(&format!(r#"{{"drive_id": "d", "path_on_host": "f", {rest}}}"#)).unwrap()
        };
        let args = |rest: &str| drive(rest).root_args();
        assert_eq!(args(r#""is_root_device": false"#), None);
        assert_eq!(args(r#""is_root_device": true"#).unwrap(), "root=/dev/vda rw");
        let partition = r#""is_root_device": true, "partuuid": "0eaa91a0-01", "is_read_only": true"#;
        assert_eq!(args(partition).unwrap(), "root=PARTUUID=0eaa91a0-01 ro");
    }
}
