//! Giving pages of guest RAM back to the host, which the guest has promised not to read before it writes them.
//!
//! What the guest reads there if it does so nevertheless is not defined by virtio (1.2, sections 5.5.6.1 and 5.5.6.7);
//! it is never more than the guest had before: zeros, or what a snapshot holds there.

use std::io;
use std::ops::Range;

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::GuestMemory;
use crate::sys::pages;

/// Bytes in the smallest piece that can be given back.
pub(crate) const PAGE: u64 = 4096;
/// From this length on, pieces of a snapshot's file are worth a mapping of their own. Smaller ones would let a guest use up
/// the mappings of the process (vm.max_map_count, 65,530).
const OWN_MAPPING: u64 = 2 << 20;

/// Gives the whole pages of RAM in `range`, guest physical addresses, back to the host; parts that are not RAM are left
/// alone. Returns the bytes that are the host's again.
///
/// - **A shared file** gets a hole: every mapping of it, in this process and others, loses the pages.
/// - **Anonymous memory** is dropped from the mapping.
/// - **A private mapping of a file**, the memory of a restored guest, would show the file's bytes again where it is
///   dropped, read from disk just to be overwritten. Large pieces are replaced by anonymous memory, small ones dropped.
///
/// # Errors
/// What the host says; an earlier part of the range may have been given back then.
pub(crate) fn give_back(memory: &GuestMemory, range: Range<u64>) -> io::Result<u64> {
    let mut given = 0;
    for region in super::ram(memory) {
        let start = region.start_addr().0;
        let inside = range.start.max(start)..range.end.min(start + region.len());
        let Some(first) = inside.start.checked_next_multiple_of(PAGE) else { continue };
        let end = inside.end & !(PAGE - 1);
        if first < end {
            give_back_pages(region, first - start, end - first)?;
            given += end - first;
        }
    }
    Ok(given)
}

fn give_back_pages(region: &<GuestMemory as GuestMemoryBackend>::R, at: u64, len: u64) -> io::Result<()> {
    // What it is now: a machine whose snapshot was taken may have become a copy of that.
    let is_copy = super::kept(region).mapping().is_some_and(|mapping| mapping.is_copy());
    if let Some(file) = region.file_offset().filter(|_| !is_copy) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        return Ok(fallocate(file.file(), hole, file.start() + at, len)?);
    }
    let len_in_memory = usize::try_from(len).map_err(io::Error::other)?;
    let slice = region.get_slice(MemoryRegionAddress(at), len_in_memory).map_err(io::Error::other)?;
    if is_copy && len >= OWN_MAPPING && pages::replace(&slice).is_ok() {
        return Ok(());
    }
    pages::discard(&slice)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::layout::{self, MIB};
    use crate::memory::{Backing, become_copy_of, map_copy_of, map_guest_ram, map_memory};

    const RAM: u64 = 8 * MIB;

    /// Bytes of the first [`RAM`] of each region that are mapped for this process now.
    fn resident(memory: &GuestMemory) -> u64 {
        let map = File::open("/proc/self/pagemap").unwrap();
        let present = |region: &<GuestMemory as GuestMemoryBackend>::R| {
            let mut entries = vec![0; (region.len().min(RAM) / PAGE * 8) as usize];
            map.read_exact_at(&mut entries, region.as_ptr().addr() as u64 / PAGE * 8).unwrap();
            let (entries, _) = entries.as_chunks::<8>();
            entries.iter().filter(|entry| u64::from_le_bytes(**entry) >> 63 != 0).count() as u64 * PAGE
        };
        memory.iter().map(present).sum()
    }

    fn fill(memory: &GuestMemory, byte: u8) {
        for region in memory.iter() {
            let len = usize::try_from(region.len().min(RAM)).unwrap();
            memory.write_slice(&vec![byte; len], region.start_addr()).unwrap();
        }
    }

    fn byte_at(memory: &GuestMemory, address: u64) -> u8 {
        memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// A file that is as large as [`RAM`] and full of fives.
    fn snapshot() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![5; RAM as usize], 0).unwrap();
        file
    }

    #[test]
    fn shared_memory_gets_a_hole_on_both_sides_of_the_gap() {
        let memory = map_guest_ram(layout::MMIO_GAP + RAM).unwrap();
        fill(&memory, 7);
        let file = |memory: &GuestMemory| -> File {
            memory.iter().next().unwrap().file_offset().unwrap().file().try_clone().unwrap()
        };
        let blocks = || file(&memory).metadata().unwrap().blocks() * 512;
        assert_eq!(blocks(), 2 * RAM);
        let high = layout::MMIO_GAP_END;
        assert_eq!(give_back(&memory, MIB..3 * MIB).unwrap(), 2 * MIB);
        assert_eq!(give_back(&memory, high + MIB..high + 2 * MIB).unwrap(), MIB);
        assert_eq!((blocks(), resident(&memory)), (2 * RAM - 3 * MIB, 2 * RAM - 3 * MIB));
        for (address, byte) in [(MIB - 1, 7), (MIB, 0), (3 * MIB - 1, 0), (3 * MIB, 7), (high + MIB, 0)] {
            assert_eq!(byte_at(&memory, address), byte, "{address:#x}");
        }
        // The gap is nobody's to give back, and what lies beyond it is.
        assert_eq!(give_back(&memory, layout::MMIO_GAP - 1..u64::MAX).unwrap(), RAM);
        assert_eq!(byte_at(&memory, high), 0);
    }

    #[test]
    fn anonymous_memory_is_dropped() {
        let memory = map_memory(RAM, Backing::Anonymous, &[]).unwrap();
        fill(&memory, 7);
        assert_eq!(resident(&memory), RAM);
        assert_eq!(give_back(&memory, MIB..5 * MIB).unwrap(), 4 * MIB);
        assert_eq!(resident(&memory), RAM - 4 * MIB);
        assert_eq!(
            [MIB - 1, MIB, 5 * MIB - 1, 5 * MIB].map(|address| byte_at(&memory, address)),
            [7, 0, 0, 7]
        );
    }

    #[test]
    fn a_large_piece_of_a_snapshots_file_becomes_zeros_and_a_small_one_the_files_again() {
        let later = map_guest_ram(RAM).unwrap();
        become_copy_of(&later, &snapshot()).unwrap();
        for memory in [map_copy_of(&snapshot(), RAM, &[]).unwrap(), later] {
            check_copy(&memory);
        }
    }

    fn check_copy(memory: &GuestMemory) {
        fill(memory, 7);
        assert_eq!(give_back(memory, MIB..4 * MIB).unwrap(), 3 * MIB);
        assert_eq!(give_back(memory, 6 * MIB..6 * MIB + PAGE).unwrap(), PAGE);
        assert_eq!(resident(memory), RAM - 3 * MIB - PAGE);
        let wanted =
            [(MIB - 1, 7), (MIB, 0), (4 * MIB - 1, 0), (4 * MIB, 7), (6 * MIB, 5), (6 * MIB + PAGE, 7)];
        for (address, byte) in wanted {
            assert_eq!(byte_at(memory, address), byte, "{address:#x}");
        }
        memory.write_obj(9u8, GuestAddress(2 * MIB)).unwrap();
        assert_eq!(byte_at(memory, 2 * MIB), 9, "what was given back can be used again");
    }

    #[test]
    fn only_whole_pages_are_given_back() {
        let memory = map_guest_ram(MIB).unwrap();
        fill(&memory, 7);
        let cases = [
            (1, PAGE, 0),
            (1, 2 * PAGE - 1, 0),
            (1, 2 * PAGE, PAGE),
            (PAGE, PAGE, 0),
            (2 * PAGE, PAGE, 0),
            (MIB - PAGE, MIB + 1, PAGE),
            (MIB, u64::MAX, 0),
            (u64::MAX - 1, u64::MAX, 0),
        ];
        for (start, end, wanted) in cases {
            assert_eq!(give_back(&memory, start..end).unwrap(), wanted, "{start:#x}..{end:#x}");
        }
        assert_eq!([0, PAGE, 2 * PAGE].map(|address| byte_at(&memory, address)), [7, 0, 7]);
    }
}
