//! `/drives/{drive_id}`: disks.

use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::config::{CacheMode, DiskConfig, IoEngine, RateLimiterConfig, VhostUserBlockConfig};

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
    /// Where a vhost-user back end listens, instead of a file.
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
    /// It has neither a file nor a back end, or both.
    pub(crate) fn to_config(&self) -> Result<Disk, ModelError> {
        let path = match (&self.path_on_host, &self.socket) {
            (Some(path), None) => path,
            (None, Some(socket)) => {
                let mut config = VhostUserBlockConfig::new(socket);
                config.id.clone_from(&self.drive_id);
                return Ok(Disk::Served(config));
            }
            _ => return Err(ModelError::DrivePath(self.drive_id.clone())),
        };
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
        Ok(Disk::File(config))
    }

    /// Whether its file is the VMM's own to read and write.
    pub(crate) fn is_file(&self) -> bool {
        self.socket.is_none()
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

    /// Served disk `index` of a machine as the API shows it.
    pub(crate) fn of_served(config: &VhostUserBlockConfig, index: usize) -> Self {
        Self {
            drive_id: if config.id.is_empty() { format!("served{index}") } else { config.id.clone() },
            is_root_device: false,
            partuuid: None,
            cache_type: CacheType::default(),
            is_read_only: None,
            path_on_host: None,
            rate_limiter: None,
            io_engine: None,
            socket: Some(config.socket.display().to_string()),
        }
    }

    /// What the kernel is told of a root device that is the disk of this number; nothing of another.
    pub(crate) fn root_args(&self, number: u8) -> Option<String> {
        let letter = char::from(b'a' + number.min(25));
        let root =
            self.partuuid.as_ref().map_or_else(|| format!("/dev/vd{letter}"), |id| format!("PARTUUID={id}"));
        let mode = if self.is_read_only == Some(true) { "ro" } else { "rw" };
        self.is_root_device.then(|| format!("root={root} {mode}"))
    }
}

/// A disk for the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disk {
    /// A file of the VMM's.
    File(DiskConfig),
    /// Another process's.
    Served(VhostUserBlockConfig),
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
        let Disk::File(disk) = drive.to_config().unwrap() else { panic!("it has a file") };
        assert_eq!(
            (disk.cache, disk.io_engine, disk.read_only),
            (CacheMode::Writeback, IoEngine::Async, true)
        );
        assert_eq!(disk.rate_limiter.ops.unwrap().size, 5);
        assert_eq!(Drive::of(&disk, 0), drive);
    }

    #[test]
    fn a_drive_has_a_file_or_a_back_end() {
        let drive = |rest: &str| -> Drive {
            serde_json::from_str(&format!(r#"{{"drive_id": "d", "is_root_device": false {rest}}}"#)).unwrap()
        };
        let served = drive(r#", "socket": "s""#);
        let Ok(Disk::Served(config)) = served.to_config() else { panic!("it is served") };
        assert_eq!(Drive::of_served(&config, 0), served);
        for neither_or_both in ["", r#", "socket": "s", "path_on_host": "f""#] {
            assert!(drive(neither_or_both).to_config().unwrap_err().to_string().contains("either"));
        }
    }

    #[test]
    fn the_root_device_may_be_a_partition() {
        let drive = |rest: &str| -> Drive {
            serde_json::from_str(&format!(r#"{{"drive_id": "d", "path_on_host": "f", {rest}}}"#)).unwrap()
        };
        let args = |rest: &str| drive(rest).root_args(0);
        assert_eq!(args(r#""is_root_device": false"#), None);
        assert_eq!(args(r#""is_root_device": true"#).unwrap(), "root=/dev/vda rw");
        assert_eq!(drive(r#""is_root_device": true"#).root_args(2).unwrap(), "root=/dev/vdc rw");
        let partition = r#""is_root_device": true, "partuuid": "0eaa91a0-01", "is_read_only": true"#;
        assert_eq!(args(partition).unwrap(), "root=PARTUUID=0eaa91a0-01 ro");
    }
}
