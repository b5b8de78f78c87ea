//! Tables that are well, absent, and hostile.

use super::*;
use crate::memory::{layout::MIB, map_guest_ram};

const HIGH: u64 = 0xffff_ffff_8000_0000;
const TABLE_AT: u64 = HIGH + 0x6000;

/// The first MiB at [`HIGH`] by 4 KiB pages, with its last-level table at 0x4000.
fn memory() -> GuestMemory {
    let memory = map_guest_ram(MIB).unwrap();
    for (at, entry) in [(0x1000 + 511 * 8, 0x2003u64), (0x2000 + 510 * 8, 0x3003), (0x3000, 0x4003)] {
        memory.write_obj(entry, GuestAddress(at)).unwrap();
    }
    for page in 0..256u64 {
        memory.write_obj(page << 12 | 3, GuestAddress(0x4000 + page * 8)).unwrap();
    }
    memory
}

fn sregs() -> kvm_sregs {
    let mut sregs = kvm_sregs { cr0: 0x8000_0001, cr3: 0x1000, efer: 0x500, ..Default::default() };
    sregs.idt.base = TABLE_AT;
    sregs.idt.limit = 0xfff;
    sregs
}

fn gate(handler: u64) -> [u8; 16] {
    let gate = u128::from(handler & 0xffff)
        | 0x10 << 16
        | 0x8e << 40
        | u128::from(handler >> 16 & 0xffff) << 48
        | u128::from(handler >> 32) << 64;
    gate.to_le_bytes()
}

/// The same, for programs to call.
fn gate_for_programs(handler: u64) -> [u8; 16] {
    let mut gate = gate(handler);
    gate[5] |= 0x60;
    gate
}

fn set_gate(memory: &GuestMemory, vector: u64, handler: u64) {
    memory.write_slice(&gate(handler), GuestAddress(0x6000 + vector * 16)).unwrap();
}

fn pages(points: &mut EntryPoints, memory: &GuestMemory, sregs: &kvm_sregs) -> Option<Vec<u64>> {
    points.refresh(memory, sregs, HIGH + 0x5_0000).map(|pages| pages.iter().copied().collect())
}

#[test]
fn pages_of_handlers_are_found_once_and_again_when_the_table_changes() {
    let memory = memory();
    let mut points = EntryPoints::default();
    set_gate(&memory, 6, HIGH + 0x1_0010);
    set_gate(&memory, 14, HIGH + 0x1_0ff0);
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x1_0000, 0x5_0000]));
    assert!(points.contain(HIGH + 0x1_0010) && points.contain(HIGH + 0x5_0000));
    assert!(!points.contain(HIGH + 0x1_0011));
    assert_eq!(
        (points.invalid_opcode(), points.page_fault()),
        (Some(HIGH + 0x1_0010), Some(HIGH + 0x1_0ff0))
    );
    assert_eq!(pages(&mut points, &memory, &sregs()), None);

    set_gate(&memory, 14, HIGH + 0x2_0000);
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x1_0000, 0x2_0000, 0x5_0000]));
}

#[test]
fn other_handlers_on_the_same_pages_are_known() {
    let memory = memory();
    let mut points = EntryPoints::default();
    set_gate(&memory, 3, HIGH + 0x1_0000);
    pages(&mut points, &memory, &sregs());
    set_gate(&memory, 3, HIGH + 0x1_0040);
    assert_eq!(pages(&mut points, &memory, &sregs()), None);
    assert!(points.contain(HIGH + 0x1_0040) && !points.contain(HIGH + 0x1_0000));
}

#[test]
fn a_remapped_handler_is_noticed_when_translations_are_forgotten() {
    let memory = memory();
    let mut points = EntryPoints::default();
    set_gate(&memory, 3, HIGH + 0x1_0000);
    pages(&mut points, &memory, &sregs());
    memory.write_obj(0x3_0003u64, GuestAddress(0x4000 + 0x10 * 8)).unwrap();
    assert_eq!(pages(&mut points, &memory, &sregs()), None, "the guest has not flushed its TLB");
    points.forget_translations();
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x3_0000, 0x5_0000]));
}

#[test]
fn a_handler_that_appears_needs_no_flush() {
    let memory = memory();
    let mut points = EntryPoints::default();
    set_gate(&memory, 3, HIGH + 0x1_0000);
    memory.write_obj(0u64, GuestAddress(0x4000 + 0x10 * 8)).unwrap();
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x5_0000]));
    memory.write_obj(0x1_0003u64, GuestAddress(0x4000 + 0x10 * 8)).unwrap();
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x1_0000, 0x5_0000]));
}

#[test]
fn a_table_across_two_pages_is_read_from_both() {
    let memory = memory();
    // The second half is somewhere else in physical memory.
    memory.write_obj(0x9003u64, GuestAddress(0x4000 + 7 * 8)).unwrap();
    let mut sregs = sregs();
    sregs.idt.base = TABLE_AT + 0x800;
    memory.write_slice(&gate_for_programs(HIGH + 0x3_0000), GuestAddress(0x9000)).unwrap();
    let mut points = EntryPoints::default();
    pages(&mut points, &memory, &sregs);
    assert!(points.contain(HIGH + 0x3_0000), "{:x?}", points.handlers);
}

#[test]
fn gates_that_programs_cannot_reach_name_no_pages() {
    let memory = memory();
    // An exception that does not exist, one that guests do not get, and a device's interrupt.
    for (vector, handler) in [(9, 0x1_0000), (15, 0x2_0000), (21, 0x3_0000), (236, 0x7_0000)] {
        set_gate(&memory, vector, HIGH + handler);
    }
    let mut points = EntryPoints::default();
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x5_0000]));
    assert!(!points.contain(HIGH + 0x7_0000));
    // The gate of int 0x80.
    memory.write_slice(&gate_for_programs(HIGH + 0x8_0000), GuestAddress(0x6000 + 0x80 * 16)).unwrap();
    assert_eq!(pages(&mut points, &memory, &sregs()), Some(vec![0x5_0000, 0x8_0000]));
}

#[test]
fn hostile_tables_name_no_pages() {
    let memory = memory();
    let lstar_only = Some(vec![0x5_0000]);
    let refresh = |change: &dyn Fn(&mut kvm_sregs)| {
        let mut sregs = sregs();
        change(&mut sregs);
        pages(&mut EntryPoints::default(), &memory, &sregs)
    };
    set_gate(&memory, 0, 0x0000_8000_0000_0000);
    set_gate(&memory, 1, 0x0000_1234_8001_0000);
    assert_eq!(refresh(&|_| {}), lstar_only, "handlers that are not canonical, not mapped");
    set_gate(&memory, 3, HIGH + 0x1_0000);
    assert_eq!(refresh(&|s| s.idt.limit = 0), lstar_only);
    assert_eq!(refresh(&|s| s.idt.limit = 3 * 16 + 14), lstar_only, "a gate cut short");
    assert_eq!(refresh(&|s| s.idt.base = 0x1234_5000), lstar_only);
    assert_eq!(refresh(&|s| s.idt.base = 0x8000_0000_0000_0000), lstar_only);
    assert_eq!(refresh(&|s| s.idt.base = u64::MAX), lstar_only, "a table across the end of memory");
    assert_eq!(refresh(&|s| s.cr3 = 0x000f_ffff_ffff_f000), Some(vec![]), "page tables outside memory");
}
