//! Files that appear whole or not at all: written under a temporary name, synced, renamed.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::StoreError;

/// Gives `temporary` its final name, replacing what is there. It is on disk when this returns.
pub(crate) fn publish(temporary: NamedTempFile, path: &Path, mode: u32) -> Result<(), StoreError> {
    let file = temporary.as_file();
    file.set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.sync_all())
        .map_err(StoreError::io("write", path))?;
    temporary.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
    sync_parent(path)
}

/// Makes a new name in a directory survive a crash.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync", parent))
}

/// Writes `data` to `path` by way of a temporary file in `temporary_directory`.
pub(crate) fn write_whole(
    temporary_directory: &Path,
    path: &Path,
    data: &[u8],
    mode: u32,
) -> Result<(), StoreError> {
    let mut temporary = NamedTempFile::new_in(temporary_directory)
        .map_err(StoreError::io("create a temporary file in", temporary_directory))?;
    temporary.write_all(data).map_err(StoreError::io("write", path))?;
    publish(temporary, path, mode)
}

/// Opens a regular file; other kinds (a pipe would block) are refused. Returns its size too.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), StoreError> {
    let metadata = std::fs::metadata(path).map_err(StoreError::io("read", path))?;
    if !metadata.is_file() {
        let source = std::io::Error::other("not a regular file");
        return Err(StoreError::io("read", path)(source));
    }
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    Ok((file, metadata.len()))
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let (file, size) = open_regular(path)?;
    if size > limit {
        return Err(StoreError::TooBig { what: path.display().to_string(), got: size, limit, unit: "bytes" });
    }
    let mut data = Vec::new();
    file.take(limit).read_to_end(&mut data).map_err(StoreError::io("read", path))?;
    Ok(data)
}
