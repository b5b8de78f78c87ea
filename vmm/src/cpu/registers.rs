//! The registers a vCPU starts with, for each way a guest is entered.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::boot::Entry;
use crate::cpu::control_bits::{
    CR0_AM, CR0_ET, CR0_MP, CR0_NE, CR0_PE, CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME,
};
use crate::memory::{GuestMemory, layout};

/// Bit 1 of RFLAGS is always set.
pub(crate) const RFLAGS_RESERVED: u64 = 1 << 1;
/// Present and writable page-table entry; with bit 7 a large page.
const PTE_TABLE: u64 = 0b11;
const PTE_LARGE: u64 = PTE_TABLE | 1 << 7;

/// Selectors as the 64-bit boot protocol wants them (`__BOOT_CS`, `__BOOT_DS`), and a task register.
const SELECTOR_CODE: u16 = 0x10;
const SELECTOR_DATA: u16 = 0x18;
const SELECTOR_TASK: u16 = 0x20;

/// Accessed execute/read code, accessed read/write data, busy task.
pub(crate) const TYPE_CODE: u8 = 0xb;
pub(crate) const TYPE_DATA: u8 = 0x3;
const TYPE_TASK: u8 = 0xb;

/// A flat code or data segment of privilege level 0.
pub(crate) fn flat_segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    let db = u8::from(!long);
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db,
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

/// A task state segment at address 0; nothing uses it before the kernel loads its own.
fn task_segment() -> kvm_segment {
    kvm_segment { limit: 0x67, selector: SELECTOR_TASK, type_: TYPE_TASK, present: 1, ..Default::default() }
}

/// The 8-byte descriptor of a segment (Intel SDM volume 3A, section 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let access = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7;
    let flags = u64::from(segment.l) << 1 | u64::from(segment.db) << 2 | u64::from(segment.g) << 3;
    (limit & 0xffff) | access << 40 | (limit >> 16 & 0xf) << 48 | flags << 52
}

/// Sets segments, control registers and tables for `entry` in `sregs`, and writes the tables to guest memory.
///
/// # Errors
/// The guest's memory is smaller than the tables.
pub(crate) fn set_system_registers(
    sregs: &mut kvm_sregs,
    entry: Entry,
    memory: &GuestMemory,
) -> Result<(), GuestMemoryError> {
    let long = matches!(entry, Entry::Long { .. });
    let code = flat_segment(SELECTOR_CODE, TYPE_CODE, long);
    let data = flat_segment(SELECTOR_DATA, TYPE_DATA, false);
    let task = task_segment();
    (sregs.cs, sregs.tr) = (code, task);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);

    let gdt = [0, 0, descriptor(&code), descriptor(&data), descriptor(&task), 0];
    for (address, entry) in (layout::GDT..).step_by(8).zip(gdt) {
        memory.write_obj(entry, GuestAddress(address))?;
    }
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 47;
    // No interrupts until the kernel has its own table.
    sregs.idt.base = 0;
    sregs.idt.limit = 0;

    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
    if long {
        write_identity_map(memory)?;
        sregs.cr3 = layout::PAGE_TABLES;
        sregs.cr4 = CR4_PAE;
        sregs.cr0 |= CR0_MP | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
        sregs.efer = EFER_LME | EFER_LMA;
    }
    Ok(())
}

/// Maps the first GiB one to one by 2 MiB pages.
fn write_identity_map(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    let (pml4, pdpt, pd) = (layout::PAGE_TABLES, layout::PAGE_TABLES + 0x1000, layout::PAGE_TABLES + 0x2000);
    memory.write_obj(pdpt | PTE_TABLE, GuestAddress(pml4))?;
    memory.write_obj(pd | PTE_TABLE, GuestAddress(pdpt))?;
    let mut entries = [0u8; 4096];
    for (bytes, page) in entries.chunks_exact_mut(8).zip(0u64..) {
        bytes.copy_from_slice(&(page << 21 | PTE_LARGE).to_le_bytes());
    }
    memory.write_slice(&entries, GuestAddress(pd))
}

/// The general registers for `entry`.
pub(crate) fn general_registers(entry: Entry) -> kvm_regs {
    let start = kvm_regs { rflags: RFLAGS_RESERVED, rsp: layout::BOOT_STACK, ..Default::default() };
    match entry {
        Entry::Long { rip } => kvm_regs { rip, rsi: layout::ZERO_PAGE, ..start },
        Entry::Pvh { eip } => kvm_regs { rip: eip.into(), rbx: layout::PVH_START_INFO, ..start },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map_guest_ram;

    #[test]
    fn descriptors_are_encoded_as_the_manual_says() {
        assert_eq!(descriptor(&flat_segment(SELECTOR_CODE, TYPE_CODE, true)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&flat_segment(SELECTOR_CODE, TYPE_CODE, false)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&flat_segment(SELECTOR_DATA, TYPE_DATA, false)), 0x00cf_9300_0000_ffff);
        assert_eq!(descriptor(&task_segment()), 0x0000_8b00_0000_0067);
    }

    #[test]
    fn long_mode_maps_the_first_gib_one_to_one() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let mut sregs = kvm_sregs::default();
        set_system_registers(&mut sregs, Entry::Long { rip: 0x100_0000 }, &memory).unwrap();
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        let pdpt = read(sregs.cr3) & !0xfff;
        let pd = read(pdpt) & !0xfff;
        assert_eq!(read(pd), PTE_LARGE);
        assert_eq!(read(pd + 511 * 8), 511 << 21 | PTE_LARGE);
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
    }

    #[test]
    fn pvh_starts_without_paging_with_the_start_info_in_ebx() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let mut sregs = kvm_sregs::default();
        let entry = Entry::Pvh { eip: 0x10_0000 };
        set_system_registers(&mut sregs, entry, &memory).unwrap();
        assert_eq!((sregs.cr0 & CR0_PG, sregs.cr4, sregs.efer, sregs.cs.db), (0, 0, 0, 1));
        assert_eq!(general_registers(entry).rbx, layout::PVH_START_INFO);
    }
}
