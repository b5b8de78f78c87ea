//! A CPU to try instructions on: 2 MiB of RAM, mapped one to one, ring 0, long mode.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

pub(crate) mod tables;

use super::cpu::Cpu;
use super::interpreter::Interpreter;
use super::ram::Ram;
use super::step::Stop;
use crate::cpu::control_bits::{CR0_PE, CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE};
use crate::memory::{GuestMemory, layout::MIB, map_guest_ram};

/// Where the code under test is.
pub(crate) const CODE: u64 = 0x1000;
/// Free memory for the code under test.
pub(crate) const DATA: u64 = 0x8000;
/// First byte behind the stack of the code under test.
pub(crate) const STACK: u64 = 0x1_0000;
/// Page tables: PML4, PDPT, PD, PT.
pub(crate) const TABLES: u64 = 0x18_0000;

/// Present, writable, for ring 3 as well.
const ENTRY: u64 = 7;

/// Memory with page tables that map 2 MiB one to one in small pages, and again at the start of the upper half.
pub(crate) fn memory() -> GuestMemory {
    let memory = map_guest_ram(2 * MIB).unwrap();
    let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).unwrap();
    for (level, index) in [(0, 0), (0, 256), (1, 0), (2, 0)] {
        put(TABLES + level * 0x1000 + index * 8, (TABLES + (level + 1) * 0x1000) | ENTRY);
    }
    for page in 0..512 {
        put(TABLES + 0x3000 + page * 8, page << 12 | ENTRY);
    }
    memory
}

/// System registers of ring 0 in long mode over [`memory`].
pub(crate) fn system_registers() -> kvm_sregs {
    let code = kvm_segment {
        selector: 0x10,
        limit: !0,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment { selector: 0x18, type_: 3, db: 1, l: 0, ..code };
    kvm_sregs {
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        cr0: CR0_PG | CR0_WP | CR0_PE,
        cr3: TABLES,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA | EFER_NXE,
        ..Default::default()
    }
}

/// An interpreter that is about to run `code`.
pub(crate) fn interpreter(code: &[u8]) -> Interpreter {
    memory_interpreter(code).1
}

/// The same, with its memory.
pub(crate) fn memory_interpreter(code: &[u8]) -> (GuestMemory, Interpreter) {
    let memory = memory();
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    let regs = kvm_regs { rip: CODE, rsp: STACK, rflags: 2, ..Default::default() };
    let cpu = Cpu::new(Ram::map(&memory).unwrap(), &regs, &system_registers(), 48);
    (memory, Interpreter::new(cpu))
}

/// Runs `code` to its end, after `prepare`.
///
/// # Panics
/// It stops before.
pub(crate) fn run(code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> Cpu {
    let mut interpreter = interpreter(code);
    prepare(&mut interpreter.cpu);
    let end = CODE + code.len() as u64;
    for _ in 0..10_000 {
        if interpreter.cpu.rip == end {
            return interpreter.cpu;
        }
        match interpreter.step() {
            Ok(()) | Err(Stop::Done | Stop::Again) => {}
            Err(stop) => panic!("{stop:?} at {:#x}, {:?}", interpreter.cpu.rip, interpreter.cpu.exception),
        }
    }
    panic!("it does not end");
}
