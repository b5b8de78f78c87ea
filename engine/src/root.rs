//! The data root: where everything that outlives a command is kept.
//!
//! ```text
//! <root>/carve.db             instances, addresses (SQLite)
//! <root>/images, <root>/layers the image store
//! <root>/templates/           empty ext4 disks to copy from
//! <root>/instances/<id>/      one directory per instance, see `instance.rs`
//! <root>/*.lock               flock files, see `files.rs`
//! ```

use std::path::{Path, PathBuf};

/// The paths below one data root.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("carve.db")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    /// Held while instances are recorded or cleaned up.
    pub(crate) fn instances_lock(&self) -> PathBuf {
        self.0.join("instances.lock")
    }

    /// Held while the network is changed.
    pub(crate) fn network_lock(&self) -> PathBuf {
        self.0.join("network.lock")
    }

    pub(crate) fn is_default(&self) -> bool {
        self.0 == default_root()
    }
}

/// Where data is kept unless the user says otherwise: `/var/lib/carve` for root, `$XDG_DATA_HOME/carve` (or
/// `~/.local/share/carve`) for everyone else.
#[must_use]
pub fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/carve");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/share");
    std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("carve")
}
