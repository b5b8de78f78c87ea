//! Guest virtual to guest physical addresses, by walking the guest's own page tables (Intel SDM volume 3A, chapter
//! 4.5). Long mode and unpaged mode only; what 32-bit paging maps is not found.

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

const CR0_PG: u64 = 1 << 31;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Bits 51:12 of an entry: the address it points to.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The registers that say how the guest translates addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paging {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
}

/// The guest physical address of `linear`, or `None` where nothing is mapped.
pub(crate) fn translate(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<u64> {
    if paging.cr0 & CR0_PG == 0 {
        return Some(linear);
    }
    if paging.efer & EFER_LMA == 0 {
        return None;
    }
    let levels: u32 = if paging.cr4 & CR4_LA57 == 0 { 4 } else { 5 };
    let mut table = paging.cr3 & ADDRESS;
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let index = linear >> shift & 0x1ff;
        let entry: u64 = memory.read_obj(GuestAddress(table + index * 8)).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        let large = entry & LARGE != 0 && (level == 1 || level == 2);
        if level == 0 || large {
            let within = (1u64 << shift) - 1;
            return Some((entry & ADDRESS & !within) | (linear & within));
        }
        table = entry & ADDRESS;
    }
    None
}

/// Reads as much of `buffer` at the virtual address `linear` as is mapped; returns how many bytes.
pub(crate) fn read(memory: &GuestMemory, paging: Paging, linear: u64, buffer: &mut [u8]) -> usize {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = linear.wrapping_add(done as u64);
        let Some(physical) = translate(memory, paging, at) else { break };
        let to_page_end = usize::try_from(4096 - (at & 0xfff)).unwrap_or(rest.len());
        let len = rest.len().min(to_page_end);
        let Some(part) = rest.get_mut(..len) else { break };
        if memory.read_slice(part, GuestAddress(physical)).is_err() {
            break;
        }
        done += len;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{layout::MIB, map_guest_ram};

    fn long_mode(cr3: u64) -> Paging {
        Paging { cr0: CR0_PG, cr3, cr4: 0, efer: EFER_LMA }
    }

    /// Maps 0xffff_ffff_8000_0000 by a 2 MiB page at 0 and the page behind it by a 4 KiB page at 0x5000.
    fn mapped() -> GuestMemory {
        let memory = map_guest_ram(MIB).unwrap();
        for (at, entry) in [
            (0x1000 + 511 * 8, 0x2003u64),
            (0x2000 + 510 * 8, 0x3003),
            (0x3000, LARGE | 3),
            (0x3008, 0x4003),
            (0x4000, 0x5003),
        ] {
            memory.write_obj(entry, GuestAddress(at)).unwrap();
        }
        memory
    }

    #[test]
    fn small_and_large_pages_are_walked() {
        let memory = mapped();
        let high = 0xffff_ffff_8000_0000;
        assert_eq!(translate(&memory, long_mode(0x1000), high + 0x1234), Some(0x1234));
        assert_eq!(translate(&memory, long_mode(0x1000), high + 0x20_0010), Some(0x5010));
        assert_eq!(translate(&memory, long_mode(0x1000), high + 0x20_1000), None);
        assert_eq!(translate(&memory, long_mode(0x1000), 0), None);
    }

    #[test]
    fn tables_outside_memory_translate_nothing() {
        let memory = mapped();
        assert_eq!(translate(&memory, long_mode(ADDRESS), 0x1000), None);
    }

    #[test]
    fn without_paging_addresses_are_physical() {
        let paging = Paging { cr0: 0, cr3: 0, cr4: 0, efer: 0 };
        assert_eq!(translate(&mapped(), paging, 0x1234), Some(0x1234));
    }

    #[test]
    fn a_read_stops_where_the_mapping_ends() {
        let memory = mapped();
        memory.write_slice(b"last", GuestAddress(0x5ffc)).unwrap();
        let mut buffer = [0; 8];
        let read = read(&memory, long_mode(0x1000), 0xffff_ffff_8020_0ffc, &mut buffer);
        assert_eq!((read, &buffer[..4]), (4, &b"last"[..]));
    }
}
