//! What `carve inspect NAME` and `carve stats NAME` print, as far as the harness needs it. Everything is optional: what
//! the binary does not say is absent from the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::memory::GuestMemory;
use crate::size::Size;

/// `carve inspect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Inspect {
    /// The processes.
    pub pids: Pids,
    /// The cgroup's directories by controller, and its version.
    pub cgroup: BTreeMap<String, Value>,
    /// The image.
    pub image: Option<Image>,
    /// The thin read-write layer.
    pub writable: Option<Writable>,
    /// The guest's files; absent for containers.
    pub guest: Option<Guest>,
}

/// Process ids on the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pids {
    /// The monitor, which is the VMM of a VM.
    pub monitor: Option<u32>,
    /// The first process of a container.
    pub init: Option<u32>,
}

/// The image of an instance.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    /// Its digest.
    pub digest: Option<String>,
    /// Its layers.
    pub layers: Vec<Layer>,
}

/// A layer's sizes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Layer {
    /// As it travels.
    pub compressed_bytes: Option<u64>,
    /// As it is stored.
    pub stored_bytes: Option<u64>,
}

/// The thin read-write layer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Writable {
    /// What it takes on disk.
    pub allocated_bytes: Option<u64>,
}

/// What a guest boots from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Guest {
    /// The kernel's file.
    pub kernel: Option<PathBuf>,
    /// The initramfs's file.
    pub initramfs: Option<PathBuf>,
}

/// `carve stats`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    /// The guest's view; absent for containers.
    pub guest: Option<GuestMemory>,
}

impl Inspect {
    /// The directory of the memory controller.
    pub(super) fn memory_cgroup(&self) -> Option<PathBuf> {
        self.cgroup.get("memory").and_then(Value::as_str).map(PathBuf::from)
    }

    /// All directories of the cgroup.
    pub(super) fn cgroup_directories(&self) -> Vec<PathBuf> {
        let paths = self.cgroup.values().filter_map(Value::as_str).filter(|path| path.starts_with('/'));
        let mut paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// The sizes; a sum is absent when any of its terms is.
    pub(super) fn size(&self) -> Option<Size> {
        let image = self.image.as_ref()?;
        let sum = |of: fn(&Layer) -> Option<u64>| image.layers.iter().map(of).sum::<Option<u64>>();
        let file = |path: &Option<PathBuf>| fs::metadata(path.as_ref()?).ok().map(|meta| meta.len());
        Some(Size {
            wire_bytes: sum(|layer| layer.compressed_bytes),
            shared_bytes: sum(|layer| layer.stored_bytes),
            own_bytes: self.writable.as_ref().and_then(|writable| writable.allocated_bytes),
            guest_bytes: self.guest.as_ref().and_then(|g| Some(file(&g.kernel)? + file(&g.initramfs)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Inspect {
        serde_json::from_str(json).expect("JSON as agreed")
    }

    #[test]
    fn reads_a_container() {
        let inspect = read(
            r#"{"name":"n","model":"container","state":"running","pids":{"monitor":10,"init":11},
            "cgroup":{"memory":"/sys/fs/cgroup/memory/carve/n","cpuacct":"/sys/fs/cgroup/cpuacct/carve/n","version":1},
            "ip":"10.0.0.2","image":{"reference":"demo","digest":"sha256:ab","layers":[
              {"digest":"d","diff_id":"e","compressed_bytes":10,"stored_bytes":30},
              {"digest":"d","diff_id":"e","compressed_bytes":5,"stored_bytes":20}]},
            "writable":{"path":"/w","allocated_bytes":4096},"guest":null}"#,
        );
        assert_eq!((inspect.pids.monitor, inspect.pids.init), (Some(10), Some(11)));
        assert_eq!(inspect.memory_cgroup(), Some("/sys/fs/cgroup/memory/carve/n".into()));
        assert_eq!(inspect.cgroup_directories().len(), 2);
        let size =
            Size { wire_bytes: Some(15), shared_bytes: Some(50), own_bytes: Some(4096), guest_bytes: None };
        assert_eq!(inspect.size(), Some(size));
    }

    #[test]
    fn what_is_not_said_is_absent() {
        let inspect =
            read(r#"{"pids":{"monitor":10,"init":null},"image":{"layers":[{"compressed_bytes":3},{}]}}"#);
        let size = inspect.size().expect("there is an image");
        assert_eq!((size.wire_bytes, size.shared_bytes, size.own_bytes), (None, None, None));
        assert_eq!(inspect.memory_cgroup(), None);
        assert_eq!(serde_json::from_str::<Stats>(r#"{"guest":null}"#).expect("JSON").guest, None);
    }
}
