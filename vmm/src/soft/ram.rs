//! The guest's RAM as one flat piece of host memory, for a reader that looks at every byte the guest's kernel does.
//!
//! The mapping is that of [`GuestMemory`], whose regions lie side by side. Every access checks its bounds, so that a mistake elsewhere reads zeros at worst. Devices and ring 3 change the same bytes at the same time,
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

/// Guest RAM. Offsets count RAM only: the first byte above the gap follows the last one below it.
#[derive(Debug)]
pub(crate) struct Ram {
    base: *mut u8,
    len: usize,
    /// Bytes below the gap.
    low: u64,
    _memory: GuestMemory,
}

// SAFETY: the mapping is that of `_memory`, which any thread may use.
unsafe impl Send for Ram {}

impl Ram {
    /// The RAM of `memory`.
    ///
    /// # Errors
    /// The memory is not one piece in our address space.
    pub(crate) fn map(memory: &GuestMemory) -> io::Result<Self> {
        let mut pieces = Vec::new();
        for region in memory.iter().filter(|region| is_ram(region.start_addr().0)) {
            let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
            pieces.push((host, usize::try_from(region.len()).map_err(io::Error::other)?));
        }
        let (base, len) = match *pieces {
            [(base, len)] => (base, len),
            [(base, low), (high, len)] if base.wrapping_add(low) == high => (base, low + len),
            _ => return Err(io::Error::other("guest memory is not one piece")),
        };
        Ok(Self { base, len, low: (len as u64).min(layout::MMIO_GAP), _memory: memory.clone() })
    }

    /// Pages of RAM.
    pub(crate) fn pages(&self) -> usize {
        self.len >> 12
    }

    /// Where the page that holds the guest physical `address` starts; `None` where no RAM is.
    pub(crate) fn page_at(&self, address: u64) -> Option<usize> {
        let page = address & !(PAGE - 1);
        let offset = match page {
            _ if page < self.low => page,
            layout::MMIO_GAP_END.. => page - layout::MMIO_GAP_END + layout::MMIO_GAP,
            _ => return None,
        };
        usize::try_from(offset).ok().filter(|offset| *offset < self.len)
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

/// Whether a region that starts there is RAM, and not the memory of a device.
fn is_ram(start: u64) -> bool {
    start == 0 || start == layout::MMIO_GAP_END
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::{layout::MIB, map_guest_ram};

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
