//! Image files that are mapped into the guest's physical address space, for virtio-pmem.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A writable file is mapped in whole pages, or its last bytes would get lost.
const PAGE: u64 = 4096;

/// An image file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PmemError {
    /// It cannot be opened or measured.
    #[error("cannot open {path} for persistent memory: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// It cannot be mapped.
    #[error("cannot use {path} as persistent memory: it is neither a regular file nor a block device")]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it, or the guest's writes to its end would get lost.
    #[error(
        "cannot use {path} as persistent memory: its size of {size} bytes is not a multiple of {PAGE} above zero; \
         pad a copy of it with `truncate -s %{PAGE}`, or use it read-only if it is not empty"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Another machine writes to it.
    #[error(
        "{path} is in use by another virtual machine; stop that one first, or let all of them use it read-only"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// An open image file.
#[derive(Debug)]
pub(crate) struct PmemImage {
    pub(crate) file: Arc<File>,
    /// Its size in bytes, above zero.
    pub(crate) bytes: u64,
    /// What the guest writes stays in its machine.
    pub(crate) read_only: bool,
}

impl PmemImage {
    /// Opens an image and locks it: machines may share it as long as all of them only read it.
    ///
    /// # Errors
    /// [`PmemError`] names the path.
    pub(crate) fn open(path: &Path, read_only: bool) -> Result<Self, PmemError> {
        let failed = |source| PmemError::Open { path: path.into(), source };
        // O_NONBLOCK: opening a pipe by mistake must not hang. It has no effect on files and block devices.
        let mut file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(PmemError::NotAnImage { path: path.into() });
        }
        let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
        locked.map_err(|error| match error {
            TryLockError::WouldBlock => PmemError::InUse { path: path.into() },
            TryLockError::Error(source) => failed(source),
        })?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if bytes == 0 || (!read_only && !bytes.is_multiple_of(PAGE)) {
            return Err(PmemError::Size { path: path.into(), size: bytes });
        }
        Ok(Self { file: Arc::new(file), bytes, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn readers_share_an_image_and_a_writer_has_it_alone() {
        let file = image(8192);
        let reader = PmemImage::open(file.path(), true).unwrap();
        let another = PmemImage::open(file.path(), true).unwrap();
        assert!(matches!(PmemImage::open(file.path(), false), Err(PmemError::InUse { .. })));
        drop((reader, another));
        let writer = PmemImage::open(file.path(), false).unwrap();
        assert_eq!((writer.bytes, writer.read_only), (8192, false));
        assert!(matches!(PmemImage::open(file.path(), true), Err(PmemError::InUse { .. })));
    }

    #[test]
    fn what_cannot_be_mapped_whole_is_refused() {
        for (bytes, read_only, good) in
            [(0, true, false), (0, false, false), (1, true, true), (4097, false, false)]
        {
            let opened = PmemImage::open(image(bytes).path(), read_only);
            assert_eq!(opened.is_ok(), good, "{bytes} bytes: {opened:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(PmemImage::open(directory.path(), true), Err(PmemError::NotAnImage { .. })));
        let absent = PmemImage::open(&directory.path().join("absent"), true).unwrap_err().to_string();
        assert!(absent.contains("absent"), "{absent}");
    }
}
