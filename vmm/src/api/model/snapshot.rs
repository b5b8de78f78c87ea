//! `/snapshot/create` and `/snapshot/load`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::snapshot::SnapshotKind;

/// Where a snapshot goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// How much of the memory is written.
    #[serde(default)]
    pub snapshot_type: SnapshotKind,
    /// File for all but the memory.
    pub snapshot_path: PathBuf,
    /// File for the memory.
    pub mem_file_path: PathBuf,
}

/// Where a machine comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLoad {
    /// File with all but the memory.
    pub snapshot_path: PathBuf,
    /// File with the memory, as older clients say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_file_path: Option<PathBuf>,
    /// Where the memory is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_backend: Option<MemoryBackend>,
    /// A machine that started from a snapshot always knows what has changed since, so nothing has to be done for it.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// The same, as older clients say it.
    #[serde(default)]
    pub enable_diff_snapshots: bool,
    /// Let the guest go on at once.
    #[serde(default)]
    pub resume_vm: bool,
    /// Other taps for network cards.
    #[serde(default)]
    pub network_overrides: Vec<NetworkOverride>,
    /// Put the guest's clock forward by the time that has passed; ours always does.
    #[serde(default)]
    pub clock_realtime: bool,
}

/// Where the memory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryBackend {
    /// A file, or the socket of a process that serves page faults.
    pub backend_type: BackendType,
    /// Its path.
    pub backend_path: PathBuf,
}

/// Who has the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendType {
    /// A file.
    File,
    /// A process that serves page faults.
    Uffd,
}

/// Another tap for a network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkOverride {
    /// The card.
    pub iface_id: String,
    /// The tap interface.
    pub host_dev_name: String,
}

impl SnapshotLoad {
    /// The file with the memory.
    ///
    /// # Errors
    /// None is named, two are, or it is no file.
    pub(crate) fn memory(&self) -> Result<&PathBuf, ModelError> {
        match (&self.mem_backend, &self.mem_file_path) {
            (Some(_), Some(_)) => Err(ModelError::TwoMemories),
            (None, None) => Err(ModelError::NoMemoryFile),
            (None, Some(path)) => Ok(path),
            (Some(MemoryBackend { backend_type: BackendType::File, backend_path }), None) => Ok(backend_path),
            (Some(MemoryBackend { backend_type: BackendType::Uffd, .. }), None) => {
                Err(ModelError::NotAvailable(
                    "memory behind a page fault handler; use the backend type File, whose pages are loaded on demand too",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_memory_is_named() {
        let memory = |rest: &str| {
            let text = format!(r#"{{"snapshot_path": "s" {rest}}}"#);
            let load: SnapshotLoad = serde_json::from_str(&text).unwrap();
            load.memory().map(|path| path.display().to_string()).map_err(|error| error.to_string())
        };
        let backend = |kind| format!(r#", "mem_backend": {{"backend_type": "{kind}", "backend_path": "m"}}"#);
        assert_eq!(memory(&backend("File")), Ok("m".to_owned()));
        assert_eq!(memory(r#", "mem_file_path": "m""#), Ok("m".to_owned()));
        assert!(memory(&backend("Uffd")).unwrap_err().contains("use the backend type File"));
        assert!(memory("").unwrap_err().contains("missing field"));
        let both = backend("File") + r#", "mem_file_path": "m""#;
        assert!(memory(&both).unwrap_err().contains("too many fields"));
    }
}
