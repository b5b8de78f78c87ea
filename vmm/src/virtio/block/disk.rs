//! The host side of a disk: a raw file or block device.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::memory::GuestMemory;
use crate::sys::file_ring::FileRing;
use crate::virtio::block::config::SECTOR_SIZE;
use crate::virtio::block::disk_config::{DiskConfig, MAX_QUEUES};
use crate::virtio::block::request::Range;
use crate::virtio::block::zeroes;
use crate::virtio::segments::Segments;

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
    /// None, or too many.
    #[error("disk {path} cannot have {queues} queues; give it 1 to {MAX_QUEUES}")]
    Queues {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        queues: u16,
    },
    /// No timer for the rate limit, or no eventfd for the ring.
    #[error("the host gives no more descriptors for disk {path}; raise the limit of open files: {source}")]
    Descriptors {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
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
    pub fn open(config: &DiskConfig) -> Result<Self, BlockError> {
        Self::open_path(&config.path, config.read_only)
    }

    fn open_path(path: &Path, read_only: bool) -> Result<Self, BlockError> {
        let failed = |source| BlockError::Open { path: path.to_owned(), source };
        let file = open_file(path, read_only).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BlockError::NotADisk { path: path.to_owned() });
        }
        if !read_only {
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => BlockError::InUse { path: path.to_owned() },
                TryLockError::Error(source) => failed(source),
            })?;
        }
        let sectors = measure(&file, path)?;
        Ok(Self { path: path.to_owned(), file, sectors, read_only })
    }

    /// Follows a change that the host has made: the file at `path`, or the one that is open, has another size, or
    /// there is another file at `path`; then the result says so. The caller has no request in progress.
    ///
    /// # Errors
    ///
    /// The new file cannot be used; the disk is what it was.
    pub fn update(&mut self, path: Option<&Path>) -> Result<bool, BlockError> {
        let path = path.unwrap_or(&self.path);
        // The same file is not opened again: its lock is ours.
        let is_other = !self.is_at(path);
        if is_other {
            *self = Self::open_path(path, self.read_only)?;
        } else {
            self.sectors = measure(&self.file, path)?;
        }
        Ok(is_other)
    }

    fn is_at(&self, path: &Path) -> bool {
        path == self.path && !path.exists()
            || matches!(
                (self.file.metadata(), path.metadata()),
                (Ok(own), Ok(other)) if identity(&own) == identity(&other)
            )
    }

    /// A ring for the file, which is opened once more for it: the kernel closes a ring's file some time after the ring,
    /// and the lock, which belongs to the first opening, must not last that long.
    pub(super) fn ring<T>(&self, done: impl AsFd, capacity: u16) -> io::Result<FileRing<T>> {
        let again = open_file(&self.path, self.read_only)?;
        if identity(&again.metadata()?) != identity(&self.file.metadata()?) {
            return Err(io::Error::other("there is another file in its place by now"));
        }
        FileRing::new(&again, done, capacity)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
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
        self.read_at(memory, offset, data)
    }

    /// Reads from a byte on that has been checked.
    pub(super) fn read_at(&self, memory: &GuestMemory, offset: u64, data: Segments) -> io::Result<()> {
        data.fill_from_file(memory, &self.file, offset)
    }

    /// Writes guest memory from `sector` on.
    ///
    /// # Errors
    ///
    /// A read-only disk, outside of the disk, outside of guest memory, or the host's I/O error.
    pub fn write(&self, memory: &GuestMemory, sector: u64, data: Segments) -> io::Result<()> {
        let offset = self.check_write(sector, data.len())?;
        self.write_at(memory, offset, data)
    }

    /// Writes from a byte on that has been checked.
    pub(super) fn write_at(&self, memory: &GuestMemory, offset: u64, data: Segments) -> io::Result<()> {
        data.write_to_file(memory, &self.file, offset)
    }

    /// Gives ranges back to the host.
    ///
    /// # Errors
    ///
    /// A read-only disk, outside of the disk, or the host's I/O error.
    pub fn discard(&self, ranges: &[Range]) -> io::Result<()> {
        self.each(ranges, |offset, range| zeroes::discard(&self.file, offset, range.bytes()))
    }

    /// Has ranges read as zeroes.
    ///
    /// # Errors
    ///
    /// A read-only disk, outside of the disk, or the host's I/O error.
    pub fn write_zeroes(&self, ranges: &[Range]) -> io::Result<()> {
        self.each(ranges, |offset, range| {
            zeroes::write_zeroes(&self.file, offset, range.bytes(), range.unmap)
        })
    }

    /// All ranges are checked before the first is touched.
    fn each(&self, ranges: &[Range], change: impl Fn(u64, &Range) -> io::Result<()>) -> io::Result<()> {
        let offset = |range: &Range| {
            self.check_write(range.sector, usize::try_from(range.bytes()).unwrap_or(usize::MAX))
        };
        ranges.iter().try_for_each(|range| offset(range).map(drop))?;
        ranges.iter().try_for_each(|range| change(offset(range)?, range))
    }

    /// Has the host put everything written so far on stable storage.
    ///
    /// # Errors
    ///
    /// The host's I/O error.
    pub fn flush(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    /// Like [`Self::check`], on a disk that may be written.
    pub(super) fn check_write(&self, sector: u64, length: usize) -> io::Result<u64> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.check(sector, length)
    }

    /// The byte offset of `sector`, if `length` bytes from there are whole sectors of this disk.
    pub(super) fn check(&self, sector: u64, length: usize) -> io::Result<u64> {
        let length = length as u64;
        let end = sector.checked_add(length / SECTOR_SIZE);
        if !length.is_multiple_of(SECTOR_SIZE) || end.is_none_or(|end| end > self.sectors) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(sector * SECTOR_SIZE)
    }
}

fn open_file(path: &Path, read_only: bool) -> io::Result<File> {
    // O_NONBLOCK: opening a pipe by mistake must not hang. It has no effect on files and block devices.
    OpenOptions::new().read(true).write(!read_only).custom_flags(libc::O_NONBLOCK).open(path)
}

/// What tells a file from all others.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The size of a disk in sectors.
fn measure(mut file: &File, path: &Path) -> Result<u64, BlockError> {
    let failed = |source| BlockError::Open { path: path.to_owned(), source };
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if size == 0 || !size.is_multiple_of(SECTOR_SIZE) {
        return Err(BlockError::Size { path: path.to_owned(), size });
    }
    Ok(size / SECTOR_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: impl Into<PathBuf>, read_only: bool) -> DiskConfig {
        DiskConfig { read_only, ..DiskConfig::new(path) }
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
    fn follows_a_file_that_changes_size_and_one_that_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        let sized = |path: &Path, sectors: u64| File::create(path).unwrap().set_len(sectors * 512).unwrap();
        sized(&first, 2);
        sized(&second, 5);
        let mut disk = Disk::open(&config(&first, false)).unwrap();
        OpenOptions::new().write(true).open(&first).unwrap().set_len(3 * 512).unwrap();
        disk.update(None).unwrap();
        assert_eq!(disk.sectors(), 3);
        disk.update(Some(&first)).unwrap();
        std::fs::remove_file(&first).unwrap();
        disk.update(None).unwrap();
        assert_eq!(disk.sectors(), 3, "an open file needs no name");
        disk.update(Some(&second)).unwrap();
        assert_eq!((disk.sectors(), disk.path()), (5, second.as_path()));
        // The new file is locked, and what cannot be used changes nothing.
        assert!(matches!(Disk::open(&config(&second, false)), Err(BlockError::InUse { .. })));
        assert!(matches!(disk.update(Some(directory.path())), Err(BlockError::Open { .. })));
        OpenOptions::new().write(true).open(&second).unwrap().set_len(700).unwrap();
        assert!(matches!(disk.update(None), Err(BlockError::Size { size: 700, .. })));
        assert_eq!((disk.sectors(), disk.path()), (5, second.as_path()));
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
