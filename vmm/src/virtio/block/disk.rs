//! The host side of a disk: a raw file or block device, opened and measured once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::memory::GuestMemory;
use crate::virtio::block::config::SECTOR_SIZE;
use crate::virtio::segments::Segments;

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// The disk's serial, which the guest finds under `/sys/block/*/serial`; the first 20 bytes count.
    pub id: String,
    /// A raw file or block device.
    pub path: PathBuf,
    /// Refuse writes and tell the guest so.
    pub read_only: bool,
}

/// A disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The file cannot be opened or measured.
    #[error("cannot open disk {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It is a directory, socket, pipe or the like.
    #[error("cannot use {path} as a disk: it is neither a regular file nor a block device")]
    NotADisk {
        /// The file.
        path: PathBuf,
    },
    /// Its last bytes would be out of the guest's reach.
    #[error(
        "cannot use {path} as a disk: its size of {size} bytes is not a multiple of 512 above zero; \
         pad a copy of it with `truncate -s %512`"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Another writer has it; two would destroy the file system on it.
    #[error(
        "disk {path} is in use by another virtual machine; stop that one first or use the disk read-only"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sectors: u64,
    read_only: bool,
}

impl Disk {
    /// Opens the disk. A writable one is locked against other writers.
    ///
    /// # Errors
    ///
    /// [`BlockError`] names the path.
    pub fn open(config: &BlockConfig) -> Result<Self, BlockError> {
        let path = || config.path.clone();
        let failed = |source| BlockError::Open { path: config.path.clone(), source };
        // O_NONBLOCK: opening a pipe by mistake must not hang. It has no effect on files and block devices.
        let mut file = OpenOptions::new()
            .read(true)
            .write(!config.read_only)
            .custom_flags(libc::O_NONBLOCK)
            .open(&config.path)
            .map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BlockError::NotADisk { path: path() });
        }
        if !config.read_only {
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => BlockError::InUse { path: path() },
                TryLockError::Error(source) => failed(source),
            })?;
        }
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if size == 0 || !size.is_multiple_of(SECTOR_SIZE) {
            return Err(BlockError::Size { path: path(), size });
        }
        Ok(Self { file, sectors: size / SECTOR_SIZE, read_only: config.read_only })
    }

    /// The disk's size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Reads from `sector` on into guest memory, straight from the page cache.
    ///
    /// # Errors
    ///
    /// Outside of the disk, outside of guest memory, or the host's I/O error.
    pub fn read(&self, memory: &GuestMemory, sector: u64, data: Segments) -> io::Result<()> {
        let offset = self.check(sector, data.len())?;
        data.fill_from_file(memory, &self.file, offset)
    }

    /// Writes guest memory from `sector` on.
    ///
    /// # Errors
    ///
    /// A read-only disk, outside of the disk, outside of guest memory, or the host's I/O error.
    pub fn write(&self, memory: &GuestMemory, sector: u64, data: Segments) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let offset = self.check(sector, data.len())?;
        data.write_to_file(memory, &self.file, offset)
    }

    /// Has the host put everything written so far on stable storage.
    ///
    /// # Errors
    ///
    /// The host's I/O error.
    pub fn flush(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    /// The byte offset of `sector`, if `length` bytes from there are whole sectors of this disk.
    fn check(&self, sector: u64, length: usize) -> io::Result<u64> {
        let length = length as u64;
        let end = sector.checked_add(length / SECTOR_SIZE);
        if !length.is_multiple_of(SECTOR_SIZE) || end.is_none_or(|end| end > self.sectors) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(sector * SECTOR_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: impl Into<PathBuf>, read_only: bool) -> BlockConfig {
        BlockConfig { id: "disk".into(), path: path.into(), read_only }
    }

    fn file(size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    #[test]
    fn measures_capacity_in_sectors() {
        let file = file(3 * 512);
        assert_eq!(Disk::open(&config(file.path(), true)).unwrap().sectors(), 3);
    }

    #[test]
    fn refuses_what_is_no_disk_and_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let (odd, empty) = (file(700), file(0));
        let cases = [
            (directory.path().join("absent"), "No such file"),
            (directory.path().to_owned(), "neither a regular file nor a block device"),
            (pipe, "neither a regular file nor a block device"),
            (odd.path().to_owned(), "size of 700 bytes"),
            (empty.path().to_owned(), "size of 0 bytes"),
        ];
        for (path, wanted) in cases {
            let error = Disk::open(&config(&path, true)).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn one_writer_at_a_time_and_any_number_of_readers() {
        let file = file(512);
        let writer = Disk::open(&config(file.path(), false)).unwrap();
        assert!(matches!(Disk::open(&config(file.path(), false)), Err(BlockError::InUse { .. })));
        Disk::open(&config(file.path(), true)).unwrap();
        drop(writer);
        Disk::open(&config(file.path(), false)).unwrap();
    }

    #[test]
    fn checks_the_range_without_overflow() {
        let file = file(4 * 512);
        let disk = Disk::open(&config(file.path(), true)).unwrap();
        let cases = [
            (0, 2048, Some(0)),
            (3, 512, Some(1536)),
            (4, 0, Some(2048)),
            (4, 512, None),
            (5, 0, None),
            (0, 511, None),
            (u64::MAX, 512, None),
            (u64::MAX / 512, 512, None),
        ];
        for (sector, length, wanted) in cases {
            assert_eq!(disk.check(sector, length).ok(), wanted, "{length} bytes at sector {sector}");
        }
    }
}
