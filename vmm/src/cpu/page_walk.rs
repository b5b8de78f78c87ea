//! Guest virtual to guest physical addresses, by walking the guest's own page tables (Intel SDM volume 3A, chapter
//! 4.5). Long mode and unpaged mode only; what 32-bit paging maps is not found.

use kvm_bindings::kvm_sregs;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::cpu::control_bits::{CR0_PG, CR0_WP, CR4_LA57, EFER_LMA};
use crate::memory::GuestMemory;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
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

impl From<&kvm_sregs> for Paging {
    fn from(sregs: &kvm_sregs) -> Self {
        Self { cr0: sregs.cr0, cr3: sregs.cr3, cr4: sregs.cr4, efer: sregs.efer }
    }
}

/// A page fault, as the CPU would report it for an access by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageFault {
    /// The address that was accessed (CR2).
    pub(crate) address: u64,
    /// Bit 0: the page is there; bit 1: it was a write.
    pub(crate) error_code: u32,
}

/// Where a virtual address leads.
struct Mapping {
    physical: u64,
    writable: bool,
    /// Guest physical addresses of the entries on the way, the leaf last.
    entries: [u64; 5],
    depth: usize,
}

fn walk(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<Mapping> {
    let levels: u32 = if paging.cr4 & CR4_LA57 == 0 { 4 } else { 5 };
    let mut table = paging.cr3 & ADDRESS;
    let mut mapping = Mapping { physical: 0, writable: true, entries: [0; 5], depth: 0 };
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let index = linear >> shift & 0x1ff;
        let at = table + index * 8;
        let entry: u64 = memory.read_obj(GuestAddress(at)).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        *mapping.entries.get_mut(mapping.depth)? = at;
        mapping.depth += 1;
        mapping.writable &= entry & WRITABLE != 0;
        let large = entry & LARGE != 0 && (level == 1 || level == 2);
        if level == 0 || large {
            let within = (1u64 << shift) - 1;
            mapping.physical = (entry & ADDRESS & !within) | (linear & within);
            return Some(mapping);
        }
        table = entry & ADDRESS;
    }
    None
}

/// The guest physical address of `linear`, or `None` where nothing is mapped.
pub(crate) fn translate(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<u64> {
    if paging.cr0 & CR0_PG == 0 {
        return Some(linear);
    }
    if paging.efer & EFER_LMA == 0 {
        return None;
    }
    Some(walk(memory, paging, linear)?.physical)
}

/// Translates an access by the kernel in long mode, with its effect on the accessed and dirty bits.
///
/// # Errors
/// The fault that the access takes.
pub(crate) fn access(
    memory: &GuestMemory,
    paging: Paging,
    linear: u64,
    write: bool,
) -> Result<u64, PageFault> {
    let fault =
        |present: bool| PageFault { address: linear, error_code: u32::from(present) | u32::from(write) << 1 };
    let mapping = walk(memory, paging, linear).ok_or_else(|| fault(false))?;
    if write && !mapping.writable && paging.cr0 & CR0_WP != 0 {
        return Err(fault(true));
    }
    let used = mapping.entries.get(..mapping.depth).unwrap_or_default();
    for (index, at) in used.iter().enumerate() {
        let is_leaf = index + 1 == used.len();
        let marks = ACCESSED | if write && is_leaf { DIRTY } else { 0 };
        let entry: u64 = memory.read_obj(GuestAddress(*at)).map_err(|_| fault(false))?;
        if entry & marks != marks {
            memory.write_obj(entry | marks, GuestAddress(*at)).map_err(|_| fault(false))?;
        }
    }
    Ok(mapping.physical)
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

/// Writes `bytes` at the virtual address `linear`, whether or not the guest may; `false`, and nothing written, if it is not
/// all mapped to memory.
pub(crate) fn write(memory: &GuestMemory, paging: Paging, linear: u64, bytes: &[u8]) -> bool {
    let mut pieces = Vec::new();
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let at = linear.wrapping_add(done as u64);
        let to_page_end = usize::try_from(4096 - (at & 0xfff)).unwrap_or(rest.len());
        let len = rest.len().min(to_page_end);
        let (Some(physical), Some(piece)) = (translate(memory, paging, at), rest.get(..len)) else {
            return false;
        };
        if !memory.check_range(GuestAddress(physical), len) {
            return false;
        }
        pieces.push((GuestAddress(physical), piece));
        done += len;
    }
    pieces.into_iter().all(|(at, piece)| memory.write_slice(piece, at).is_ok())
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
    fn an_access_marks_its_page_and_faults_as_the_cpu_does() {
        let memory = mapped();
        let paging = Paging { cr0: CR0_PG | CR0_WP, ..long_mode(0x1000) };
        let high = 0xffff_ffff_8020_0000;
        let leaf = || memory.read_obj::<u64>(GuestAddress(0x4000)).unwrap();
        assert_eq!(access(&memory, paging, high, false), Ok(0x5000));
        assert_eq!(leaf(), 0x5003 | ACCESSED);
        assert_eq!(access(&memory, paging, high, true), Ok(0x5000));
        assert_eq!(leaf(), 0x5003 | ACCESSED | DIRTY);

        let missing = PageFault { address: high + 0x1000, error_code: 0b10 };
        assert_eq!(access(&memory, paging, high + 0x1000, true), Err(missing));
        memory.write_obj(0x5001u64, GuestAddress(0x4000)).unwrap();
        let read_only = PageFault { address: high, error_code: 0b11 };
        assert_eq!(access(&memory, paging, high, true), Err(read_only));
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

    #[test]
    fn a_write_is_done_completely_or_not_at_all() {
        let memory = mapped();
        let (paging, high) = (long_mode(0x1000), 0xffff_ffff_8020_0000);
        assert!(!write(&memory, paging, high + 0xffe, b"over"));
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x5ffc)).unwrap(), 0);
        assert!(write(&memory, paging, high + 0xffc, b"last"));
        assert_eq!(&memory.read_obj::<[u8; 4]>(GuestAddress(0x5ffc)).unwrap(), b"last");
    }
}
