//! Guest memory: one memory file named `guest-ram`, mapped shared and filled on demand, split at the gap for
//! memory-mapped I/O.
//!
//! Nothing is reserved or touched here: a page costs the host something when guest or VMM first use it. The
//! file gives other processes (a snapshot, a vhost-user device) a way to the same pages.

pub mod layout;

use std::fs::File;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, mmap::FromRangesError};

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

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

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
}
