//! Tells KVM of changed page-table entries one by one, which costs far less than forgetting all it knows.
//!
//! KVM watches the pages it has made shadow page tables of, but only for what the guest does to them. So the guest does
//! it: a program of ours in ring 0, which KVM emulates and which sees all of guest memory at its physical address,
//! writes each changed entry over with itself. KVM drops exactly what came of that entry. That costs 9 µs, and 1 µs
//! more for each entry; a flush costs 30 µs, and 4 µs more for each page that programs then touch.
//!
//! This works where KVM has no hardware assistance, and is not needed elsewhere: there the CPU walks the guest's own
//! tables, and only a flush ends what it remembers of them.

use std::collections::BTreeSet;

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};

use super::slots::{PAGE, PROGRAM_ADDRESS};
use crate::cpu::registers::{self, RFLAGS_RESERVED, TYPE_CODE, TYPE_DATA};

/// More changes than this are a case for a flush.
const MOST: usize = 64;
/// Entries that one run writes: as many as there are registers for their addresses.
const BATCH: usize = 14;
/// `or qword [register + 0], 0`, for the registers in the order of [`registers_for`].
const WRITES: [[u8; 5]; BATCH] = [
    [0x48, 0x83, 0x48, 0, 0],
    [0x48, 0x83, 0x49, 0, 0],
    [0x48, 0x83, 0x4a, 0, 0],
    [0x48, 0x83, 0x4b, 0, 0],
    [0x48, 0x83, 0x4d, 0, 0],
    [0x48, 0x83, 0x4e, 0, 0],
    [0x48, 0x83, 0x4f, 0, 0],
    [0x49, 0x83, 0x48, 0, 0],
    [0x49, 0x83, 0x49, 0, 0],
    [0x49, 0x83, 0x4a, 0, 0],
    [0x49, 0x83, 0x4b, 0, 0],
    [0x49, 0x83, 0x4d, 0, 0],
    [0x49, 0x83, 0x4e, 0, 0],
    [0x49, 0x83, 0x4f, 0, 0],
];
const HLT: u8 = 0xf4;

/// Pages of the program: two upper page tables, the code, then page directories of 1 GiB each.
const PDPT: u64 = PROGRAM_ADDRESS + PAGE;
const CODE: u64 = PROGRAM_ADDRESS + 2 * PAGE;
const DIRECTORIES: u64 = PROGRAM_ADDRESS + 3 * PAGE;
/// As many as there is room for behind [`PROGRAM_ADDRESS`].
const MOST_DIRECTORIES: usize = 48;

/// Page tables, present, writable; and a large page.
const TABLE: u64 = 0b11;
const LARGE: u64 = TABLE | 1 << 7;
const GIB_SHIFT: u64 = 30;

/// The program for a machine whose RAM is in `ranges` (start and length); `None` if there is too much of it.
pub(super) fn program(ranges: impl Iterator<Item = (u64, u64)>) -> Option<Vec<u8>> {
    let own = std::iter::once((PROGRAM_ADDRESS, PAGE));
    let mapped: BTreeSet<u64> = ranges
        .chain(own)
        .flat_map(|(start, len)| start >> GIB_SHIFT..=start.saturating_add(len - 1) >> GIB_SHIFT)
        .take(MOST_DIRECTORIES + 1)
        .collect();
    // One third-level table maps 512 GiB.
    if mapped.len() > MOST_DIRECTORIES || mapped.last().is_some_and(|gib| *gib >= 512) {
        return None;
    }
    let mut words = vec![0u64; 512 * 3];
    *words.get_mut(0)? = PDPT | TABLE;
    for (gib, directory) in mapped.iter().zip((DIRECTORIES..).step_by(0x1000)) {
        *words.get_mut(512 + usize::try_from(*gib).ok()?)? = directory | TABLE;
        words.extend((0..512u64).map(|page| gib << GIB_SHIFT | page << 21 | LARGE));
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    let code = WRITES.as_flattened().iter().copied().chain([HLT]);
    for (byte, instruction) in bytes.iter_mut().skip(2 * 0x1000).zip(code) {
        *byte = instruction;
    }
    Some(bytes)
}

/// The changed entries that KVM does not know of yet.
#[derive(Debug, Default)]
pub(super) struct Replay {
    changed: Vec<u64>,
}

impl Replay {
    /// The entry at this physical address has changed. Whether there are too many by now.
    pub(super) fn add(&mut self, entry: u64) -> bool {
        let entry = entry & !7;
        if self.changed.last() != Some(&entry) {
            self.changed.push(entry);
        }
        if self.changed.len() <= MOST {
            return false;
        }
        // The kernel may write many times between two entries to ring 3, and often to the same place.
        self.changed.sort_unstable();
        self.changed.dedup();
        self.changed.len() > MOST
    }

    /// Forgets them: KVM has forgotten everything.
    pub(super) fn clear(&mut self) {
        self.changed.clear();
    }

    /// The next registers to run the program with, until it has written all of them.
    pub(super) fn next(&mut self) -> Option<kvm_regs> {
        if self.changed.is_empty() {
            return None;
        }
        let batch = self.changed.len().saturating_sub(BATCH);
        let entries = self.changed.split_off(batch);
        Some(registers_for(&entries))
    }
}

/// Whether `regs` are those behind the program's end.
pub(super) fn is_done(regs: &kvm_regs) -> bool {
    regs.rip == CODE + WRITES.as_flattened().len() as u64 + 1
}

/// Registers to write `entries`: the last ones hold their addresses, and the program starts at the first of these.
fn registers_for(entries: &[u64]) -> kvm_regs {
    let unused = BATCH.saturating_sub(entries.len());
    let mut addresses = [0; BATCH];
    for (address, entry) in addresses.iter_mut().skip(unused).zip(entries) {
        *address = *entry;
    }
    let [rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r13, r14, r15] = addresses;
    let start = CODE + unused as u64 * 5;
    let others = kvm_regs { rip: start, rflags: RFLAGS_RESERVED, ..Default::default() };
    kvm_regs { rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r13, r14, r15, ..others }
}

/// The system registers to run the program with: those of ring 3, but for its own page tables and ring 0.
pub(super) fn system_registers(ring3: &kvm_sregs) -> kvm_sregs {
    let data = registers::flat_segment(0x18, TYPE_DATA, false);
    let code = registers::flat_segment(0x10, TYPE_CODE, true);
    // Nothing is to happen here; if something does, it must not happen to the guest.
    let idt = kvm_dtable { limit: 0, ..ring3.idt };
    kvm_sregs { cs: code, ds: data, es: data, ss: data, cr3: PROGRAM_ADDRESS, idt, ..*ring3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::layout;

    #[test]
    fn ram_is_mapped_at_its_address() {
        let program = program([(0, 3 << 30), (4 << 30, 1 << 30)].into_iter()).unwrap();
        let word = |at: u64| {
            let at = usize::try_from(at).unwrap();
            u64::from_le_bytes(program[at..at + 8].try_into().unwrap())
        };
        assert_eq!(word(0), PDPT | TABLE);
        for gib in 0..5 {
            let directory = (word(0x1000 + gib * 8) & !0xfff) - PROGRAM_ADDRESS;
            assert_eq!(word(directory + 8), gib << 30 | 1 << 21 | LARGE, "GiB {gib}");
        }
        assert_eq!(word(0x1000 + 5 * 8), 0);
        assert!(layout::KVM_TSS < PROGRAM_ADDRESS && PROGRAM_ADDRESS + program.len() as u64 <= 1 << 32);
    }

    #[test]
    fn more_ram_than_there_are_directories_for_has_no_program() {
        assert!(program([(0, 40 << 30)].into_iter()).is_some());
        assert!(program([(0, 60 << 30)].into_iter()).is_none());
        assert!(program([(1 << 40, 1 << 30)].into_iter()).is_none());
        assert!(program([(0, u64::MAX)].into_iter()).is_none());
    }

    #[test]
    fn entries_go_in_batches_and_each_but_once() {
        let mut replay = Replay::default();
        for entry in (0..20u64).flat_map(|n| [0x5000 + n * 8, 0x5004 + n * 8]) {
            assert!(!replay.add(entry));
        }
        let first = replay.next().unwrap();
        assert_eq!((first.rip, first.rax, first.r15), (CODE, 0x5000 + 6 * 8, 0x5000 + 19 * 8));
        let second = replay.next().unwrap();
        assert_eq!((second.rip, second.rsi, second.rdi, second.r15), (CODE + 8 * 5, 0, 0, 0x5000 + 5 * 8));
        assert_eq!(second.r9, 0x5000);
        assert_eq!(replay.next(), None);
    }

    #[test]
    fn a_place_written_again_and_again_is_one_change() {
        let mut replay = Replay::default();
        assert!(!(0..10_000).any(|n| replay.add(0x5000 + n % 2 * 8)));
        assert!((0..1_000).any(|n| replay.add(n * 8)));
    }
}
