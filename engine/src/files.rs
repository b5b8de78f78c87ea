//! Files as the engine uses them: locks that die with their holder, and writes that are whole or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::error::{EngineError, Result};

/// A lock file that is held until dropped, or until the last process that inherited it ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Waits for the lock.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| EngineError::file("lock", path)(e.into()))?;
        Ok(Self(file))
    }

    /// The lock, or `None` when somebody holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(EngineError::file("lock", path)(e.into())),
        }
    }

    /// The descriptor that holds the lock, to hand on to another process.
    pub(crate) fn into_file(self) -> File {
        self.0
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(EngineError::file("open", path))
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(EngineError::file("make the directory", path))
}

/// Writes a small file of an instance.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path).and_then(|mut f| f.write_all(bytes)).map_err(EngineError::file("write", path))
}

/// Removes a directory and what is in it; one that is not there is removed already.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(EngineError::file("remove", path)(e)),
        _ => Ok(()),
    }
}
