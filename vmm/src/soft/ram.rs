//! The guest's memory as one flat piece of host memory, for a reader that looks at every byte the guest's kernel does.
//!
//! The mapping is that of [`GuestMemory`], whose regions lie one after the other: RAM, then image files. Every access checks
//! its bounds, so that a mistake elsewhere reads zeros at worst. Devices and ring 3 change the same bytes at the same time,
//! hence volatile accesses; one that is aligned is a single access of the host's CPU.
#![expect(
    unsafe_code,
    reason = "volatile access to memory that the guest and devices change at the same time"
)]

use std::io;
use std::ops::Range;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::word::Word;
use crate::memory::{GuestMemory, layout};

/// Bytes in a page.
pub(crate) const PAGE: u64 = 4096;

/// A value without alignment, so that one load or store of the CPU moves it from or to any address.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Guest physical addresses, and where their bytes are.
#[derive(Debug, Clone, Copy)]
struct Extent {
    address: u64,
    len: u64,
    offset: u64,
}

/// Guest memory. Offsets count without gaps: the first byte above the gap follows the last one below it.
#[derive(Debug)]
pub(crate) struct Ram {
    base: *mut u8,
    len: usize,
    /// Bytes below the gap, at offset 0.
    low: u64,
    /// What lies above it.
    high: Vec<Extent>,
    _memory: GuestMemory,
}

// SAFETY: the mapping is that of `_memory`, which any thread may use.
unsafe impl Send for Ram {}

impl Ram {
    /// The flat view of `memory`.
    ///
    /// # Errors
    /// The memory is not one piece in our address space.
    pub(crate) fn map(memory: &GuestMemory) -> io::Result<Self> {
        let mut base = std::ptr::null_mut::<u8>();
        let mut extents: Vec<Extent> = Vec::new();
        for region in memory.iter() {
            let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
            if extents.is_empty() {
                base = host;
            }
            // Images begin in a huge page of their own.
            let end = extents.last().map_or(0, |extent| extent.offset + extent.len);
            let offset = (host.addr() as u64).wrapping_sub(base.addr() as u64);
            if !(end..end + layout::PMEM_UNIT).contains(&offset) {
                return Err(io::Error::other("guest memory is not one piece"));
            }
            extents.push(Extent { address: region.start_addr().0, len: region.len(), offset });
        }
        let len = extents.last().map_or(0, |extent| extent.offset + extent.len);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let low = extents.first().filter(|extent| extent.address == 0).map_or(0, |extent| extent.len);
        let high = extents.into_iter().filter(|extent| extent.address != 0).collect();
        Ok(Self { base, len, low, high, _memory: memory.clone() })
    }

    /// Pages of memory.
    pub(crate) fn pages(&self) -> usize {
        self.len >> 12
    }

    /// Where the page that holds the guest physical `address` starts; `None` where no RAM is.
    pub(crate) fn page_at(&self, address: u64) -> Option<usize> {
        let page = address & !(PAGE - 1);
        if page < self.low {
            return usize::try_from(page).ok();
        }
        let found =
            self.high.iter().find(|extent| page >= extent.address && page - extent.address < extent.len);
        found.and_then(|extent| usize::try_from(extent.offset + (page - extent.address)).ok())
    }

    #[inline(always)]
    fn contains(&self, offset: usize, len: usize) -> bool {
        offset <= self.len.wrapping_sub(len) && len <= self.len
    }

    /// The value at `offset`.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&self, offset: usize) -> T {
        if !self.contains(offset, size_of::<T>()) {
            return T::default();
        }
        // SAFETY: the bytes lie in the mapping, as was just checked.
        let at = unsafe { self.base.add(offset) }.cast::<Unaligned<T>>();
        // SAFETY: valid for reads and of alignment 1; any bit pattern is a value of `T`.
        unsafe { at.read_volatile() }.0
    }

    /// Puts `value` at `offset`.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&self, offset: usize, value: T) {
        if !self.contains(offset, size_of::<T>()) {
            return;
        }
        // SAFETY: the bytes lie in the mapping, as was just checked.
        let at = unsafe { self.base.add(offset) }.cast::<Unaligned<T>>();
        // SAFETY: valid for writes and of alignment 1.
        unsafe { at.write_volatile(Unaligned(value)) };
    }

    /// Copies `to.len()` bytes from `offset`; bytes beyond RAM stay as they are in `to`.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        if self.contains(offset, to.len()) {
            // SAFETY: the bytes lie in the mapping, as was just checked.
            let from = unsafe { self.base.add(offset) };
            // SAFETY: both are valid for that many bytes, and no reference to guest RAM exists, so they cannot overlap.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        }
    }

    /// Copies `from` to `offset`, if it fits.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        if self.contains(offset, from.len()) {
            // SAFETY: the bytes lie in the mapping, as was just checked.
            let to = unsafe { self.base.add(offset) };
            // SAFETY: both are valid for that many bytes, and no reference to guest RAM exists, so they cannot overlap.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        }
    }

    /// Stores up to eight bytes at `offset`, those of a whole word at once.
    pub(crate) fn write_word(&self, offset: usize, bytes: &[u8]) {
        match *bytes {
            [a, b] => self.store(offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self.store(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => self.store(offset, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => self.write(offset, bytes),
        }
    }

    /// Whether RAM at `offset` holds `bytes`.
    #[inline]
    pub(crate) fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks::<8>();
        let words_same = words
            .iter()
            .enumerate()
            .all(|(index, word)| self.load::<u64>(offset + index * 8) == u64::from_le_bytes(*word));
        let done = bytes.len() - rest.len();
        words_same
            && rest.iter().enumerate().all(|(index, byte)| self.load::<u8>(offset + done + index) == *byte)
    }

    /// Copies `len` bytes inside RAM, as if through a buffer.
    pub(crate) fn copy(&self, from: usize, to: usize, len: usize) {
        if self.contains(from, len) && self.contains(to, len) {
            // SAFETY: the bytes lie in the mapping, as was just checked.
            let from = unsafe { self.base.add(from) };
            // SAFETY: likewise.
            let to = unsafe { self.base.add(to) };
            // SAFETY: both are valid for that many bytes; `copy` allows them to overlap.
            unsafe { std::ptr::copy(from, to, len) };
        }
    }

    /// Fills `range` with `byte`.
    pub(crate) fn fill(&self, range: Range<usize>, byte: u8) {
        if self.contains(range.start, range.len()) {
            // SAFETY: the bytes lie in the mapping, as was just checked.
            let at = unsafe { self.base.add(range.start) };
            // SAFETY: valid for writes of that many bytes.
            unsafe { at.write_bytes(byte, range.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::config::PmemConfig;
    use crate::memory::{Backing, layout::MIB, map_guest_ram, map_memory};

    #[test]
    fn it_is_the_same_memory_that_devices_see() {
        let memory = map_guest_ram(MIB).unwrap();
        let ram = Ram::map(&memory).unwrap();
        ram.store(0x1003, 0x1122_3344_5566_7788u64);
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1003)).unwrap(), 0x5566_7788);
        memory.write_slice(b"carve", GuestAddress(0x2ffe)).unwrap();
        assert!(ram.holds(0x2ffe, b"carve"));
        assert!(!ram.holds(0x2ffe, b"carved"));
    }

    #[test]
    fn what_lies_beyond_the_gap_follows_without_one() {
        let memory = map_guest_ram(layout::MMIO_GAP + 2 * MIB).unwrap();
        let ram = Ram::map(&memory).unwrap();
        let high = usize::try_from(layout::MMIO_GAP).unwrap();
        assert_eq!(ram.page_at(layout::MMIO_GAP), None);
        assert_eq!(ram.page_at(layout::MMIO_GAP_END + 0x1234), Some(high + 0x1000));
        ram.store(high, 7u8);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(layout::MMIO_GAP_END)).unwrap(), 7);
    }

    #[test]
    fn images_follow_ram_and_are_found_where_the_guest_has_them() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(4096).unwrap();
        let pmem = PmemConfig { path: image.path().into(), read_only: true, ..PmemConfig::default() };
        let memory = map_memory(MIB, Backing::File, &[pmem.clone(), pmem]).unwrap();
        let ram = Ram::map(&memory).unwrap();
        let second = layout::MMIO_GAP_END + 128 * MIB;
        let offset = ram.page_at(second).unwrap();
        memory.write_obj(7u8, GuestAddress(second)).unwrap();
        assert_eq!((offset as u64, ram.load::<u8>(offset)), (4 * MIB, 7));
        assert_eq!(ram.pages() as u64, 6 * MIB / PAGE);
        for hole in [MIB, layout::MMIO_GAP_END + 2 * MIB, second + 2 * MIB] {
            assert_eq!(ram.page_at(hole), None, "{hole:#x}");
        }
    }

    #[test]
    fn nothing_is_reached_beyond_the_end() {
        let ram = Ram::map(&map_guest_ram(MIB).unwrap()).unwrap();
        let end = usize::try_from(MIB).unwrap();
        ram.store(end - 4, u64::MAX);
        ram.store(usize::MAX, u64::MAX);
        ram.fill(end - 1..end + 1, 1);
        ram.copy(0, end - 1, 2);
        assert_eq!((ram.load::<u64>(end - 4), ram.load::<u32>(end - 4)), (0, 0));
        assert_eq!(ram.page_at(MIB), None);
        assert_eq!(ram.page_at(u64::MAX), None);
    }
}
