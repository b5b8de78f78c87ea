//! Guest memory: one memory file named `guest-ram`, mapped shared and filled on demand, split at the gap for
//! memory-mapped I/O.
//!
//! Nothing is reserved or touched here: a page costs the host something when guest or VMM first use it. The
//! file gives other processes (a vhost-user device) a way to the same pages. RAM that comes from a snapshot is instead a
//! copy-on-write mapping of that snapshot's file.

pub mod layout;

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek, sendfile};
use rustix::io::Errno;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    mmap::FromRangesError, mmap::MmapRegion,
};

/// The guest's memory, as VMM, boot code and devices share it. Clones refer to the same pages.
pub type GuestMemory = GuestMemoryMmap<()>;

/// Why guest memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No memory file of this size.
    #[error("cannot make a memory file of {mib} MiB for the guest: {source}")]
    File {
        /// Size asked for, in MiB.
        mib: u64,
        /// What the host said.
        source: rustix::io::Errno,
    },
    /// The memory of a snapshot could not be mapped.
    #[error("cannot map {mib} MiB of a snapshot's memory: {problem}")]
    Copy {
        /// Size in MiB.
        mib: u64,
        /// What failed.
        problem: String,
    },
    /// The file could not be mapped.
    #[error("cannot map {mib} MiB of guest memory; ask for less with --memory: {source}")]
    Map {
        /// Size asked for, in MiB.
        mib: u64,
        /// What failed.
        source: FromRangesError,
    },
}

/// Maps the RAM of a guest with `bytes` of it.
///
/// # Errors
/// The host has no address space or no descriptors left for it.
pub fn map_guest_ram(bytes: u64) -> Result<GuestMemory, MemoryError> {
    let mib = bytes / layout::MIB;
    let file_error = |source| MemoryError::File { mib, source };
    let file = memfd_create("guest-ram", MemfdFlags::CLOEXEC).map_err(file_error)?;
    ftruncate(&file, bytes).map_err(file_error)?;
    let file = std::sync::Arc::new(File::from(file));

    let mut file_start = 0;
    let mut ranges = Vec::new();
    for ram in layout::ram_ranges(bytes) {
        let len = usize::try_from(ram.len).unwrap_or(usize::MAX);
        ranges.push((GuestAddress(ram.base), len, Some(FileOffset::from_arc(file.clone(), file_start))));
        file_start += ram.len;
    }
    // vm-memory maps shared and with MAP_NORESERVE where a file backs the region.
    GuestMemoryMmap::from_ranges_with_files(ranges).map_err(|source| MemoryError::Map { mib, source })
}

/// Maps the RAM of a guest with `bytes` of it as a copy of `file`: pages are the file's until somebody writes them. The
/// file must not change or shrink while the mapping lives.
///
/// # Errors
/// The host has no address space left, or the file is too small.
pub fn map_copy_of(file: &File, bytes: u64) -> Result<GuestMemory, MemoryError> {
    let mib = bytes / layout::MIB;
    let map_error = |error: String| MemoryError::Copy { mib, problem: error };
    let file = std::sync::Arc::new(file.try_clone().map_err(|error| map_error(error.to_string()))?);
    let mut file_start = 0;
    let mut regions = Vec::new();
    for ram in layout::ram_ranges(bytes) {
        let len = usize::try_from(ram.len).unwrap_or(usize::MAX);
        let place = FileOffset::from_arc(file.clone(), file_start);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        let region = MmapRegion::build(Some(place), len, protection, flags)
            .map_err(|error| map_error(error.to_string()))?;
        let region = GuestRegionMmap::new(region, GuestAddress(ram.base))
            .ok_or_else(|| map_error("it reaches beyond the address space".into()))?;
        regions.push(region);
        file_start += ram.len;
    }
    GuestMemoryMmap::from_regions(regions).map_err(|error| map_error(error.to_string()))
}

/// Fills `len` bytes of guest memory at `address` from `file`, starting at `file_at`.
///
/// The host copies from page cache to memory file. The VMM maps and faults none of those pages, which takes half the
/// time of reading into the mapping. Holes of the file stay holes of the memory, which must be fresh.
///
/// # Errors
/// The range is not RAM, the file cannot be read or ends before.
pub(crate) fn fill_from_file(
    memory: &GuestMemory,
    address: u64,
    file: &File,
    file_at: u64,
    len: usize,
) -> io::Result<()> {
    let start = GuestAddress(address);
    let region = memory.find_region(start).filter(|region| {
        address.checked_add(len as u64).is_some_and(|end| end - region.start_addr().0 <= region.len())
    });
    let Some((region, ram)) = region.and_then(|region| Some((region, region.file_offset()?))) else {
        return Err(io::Error::other(format!("{len:#x} bytes at {address:#x} are not RAM")));
    };
    let memory_at = ram.start() + (address - region.start_addr().0);
    let end = file_at + len as u64;
    if file.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut at = file_at;
    while let Some(data) = next_data(file, at, end)? {
        seek(ram.file(), SeekFrom::Start(memory_at + (data.start - file_at)))?;
        copy(ram.file(), file, &data)?;
        at = data.end;
    }
    Ok(())
}

/// The next run of data in a range of a file, if there is any.
pub(crate) fn next_data(file: &File, start: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    if start >= end {
        return Ok(None);
    }
    let data = match seek(file, SeekFrom::Data(start)) {
        Ok(data) => data,
        // Nothing but a hole up to the end of the file.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hole = seek(file, SeekFrom::Hole(data))?;
    Ok((data < end).then(|| data..hole.min(end)))
}

/// Copies a range of a file to where the other file is positioned.
fn copy(to: &File, from: &File, range: &Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        if sendfile(to, from, Some(&mut at), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_above_the_gap_is_its_own_part_of_the_file() {
        let memory = map_guest_ram(3073 * layout::MIB).unwrap();
        memory.write_obj(0x11u8, GuestAddress(0)).unwrap();
        memory.write_obj(0x22u8, GuestAddress(layout::MMIO_GAP_END)).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0)).unwrap(), 0x11);
        assert!(memory.read_obj::<u8>(GuestAddress(layout::MMIO_GAP)).is_err());
        let starts: Vec<u64> = memory.iter().map(|r| r.file_offset().unwrap().start()).collect();
        assert_eq!(starts, [0, layout::MMIO_GAP]);
    }

    #[test]
    fn a_file_lands_where_it_should_on_both_sides_of_the_gap() {
        let memory = map_guest_ram(3073 * layout::MIB).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for address in [0x1001, layout::MMIO_GAP_END + 0xfff] {
            fill_from_file(&memory, address, &file, 2, 5).unwrap();
            let mut bytes = [0; 6];
            memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            assert_eq!(&bytes, b"23456\0");
        }
    }

    #[test]
    fn holes_of_a_file_are_zeros_and_take_no_memory() {
        let memory = map_guest_ram(16 * layout::MIB).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(9 * layout::MIB).unwrap();
        file.write_all_at(b"data", 5 * layout::MIB).unwrap();
        fill_from_file(&memory, layout::MIB, &file, 0, usize::try_from(8 * layout::MIB).unwrap()).unwrap();
        let mut bytes = [7; 5];
        memory.read_slice(&mut bytes, GuestAddress(6 * layout::MIB)).unwrap();
        assert_eq!(&bytes, b"data\0");
        let ram = memory.iter().next().unwrap().file_offset().unwrap().file().metadata().unwrap();
        assert!(ram.blocks() * 512 < layout::MIB, "{} blocks", ram.blocks());
    }

    #[test]
    fn a_file_that_ends_early_or_lands_outside_ram_is_an_error() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let early = fill_from_file(&memory, 0, &file, 0, 11).unwrap_err();
        assert_eq!(early.kind(), io::ErrorKind::UnexpectedEof);
        for address in [layout::MIB - 1, layout::MIB, u64::MAX] {
            assert!(fill_from_file(&memory, address, &file, 0, 10).is_err(), "{address:#x}");
        }
    }
}
