//! Who may change the store when: advisory locks (`flock`), which the kernel drops when a process dies.
//!
//! ```text
//!  content lock   shared:    blobs and layers are being added
//!                 exclusive: what nothing refers to is being removed
//!  index lock     exclusive: index.json is read, changed and written
//! ```
//!
//! The index lock may be taken while the content lock is held, never the other way round.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The lock files of a store.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    content: PathBuf,
    index: PathBuf,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

impl Locks {
    pub(crate) fn new(root: &Path) -> Self {
        Self { content: root.join("images.content.lock"), index: root.join("images.index.lock") }
    }

    pub(crate) fn adding(&self) -> Result<Held, StoreError> {
        hold(&self.content, File::lock_shared)
    }

    pub(crate) fn removing(&self) -> Result<Held, StoreError> {
        hold(&self.content, File::lock)
    }

    /// The content lock, if nobody is adding or removing.
    pub(crate) fn removing_if_idle(&self) -> Option<Held> {
        let file = open(&self.content).ok()?;
        file.try_lock().ok()?;
        Some(Held { _file: file })
    }

    pub(crate) fn index(&self) -> Result<Held, StoreError> {
        hold(&self.index, File::lock)
    }
}

fn hold(path: &Path, lock: impl Fn(&File) -> std::io::Result<()>) -> Result<Held, StoreError> {
    let file = open(path).map_err(StoreError::io("open", path))?;
    lock(&file).map_err(StoreError::io("lock", path))?;
    Ok(Held { _file: file })
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}
