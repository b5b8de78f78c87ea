//! Descriptor and interrupt tables as a kernel sets them up, for tests of privileged instructions.

use vm_memory::{Bytes, GuestAddress};

use super::super::cpu::{Cpu, RSP};
use super::super::interpreter::Interpreter;
use super::super::step::Stop;
use super::{CODE, STACK, memory_interpreter};
use crate::memory::GuestMemory;

pub(crate) const KERNEL_CODE: u16 = 0x10;
pub(crate) const KERNEL_DATA: u16 = 0x18;
pub(crate) const USER_CODE_32: u16 = 0x23;
pub(crate) const USER_DATA: u16 = 0x2b;
pub(crate) const USER_CODE: u16 = 0x33;
/// The task state segment: two places in the table.
pub(crate) const TASK: u16 = 0x40;
/// A task state segment that is not in use, like [`TASK`].
pub(crate) const IDLE_TASK: u16 = 0x50;
/// A local descriptor table: two places in the table.
pub(crate) const LOCAL_TABLE: u16 = 0x60;
/// Kernel code that is not present.
pub(crate) const ABSENT_CODE: u16 = 0x70;
/// Data with a base, for the kernel and for programs.
pub(crate) const BASED_DATA: u16 = 0x7b;
/// Base of [`BASED_DATA`].
pub(crate) const BASE: u64 = 0x1234_5678;

/// Where the tables are.
pub(crate) const GDT: u64 = 0x19_0000;
pub(crate) const IDT: u64 = 0x19_1000;
pub(crate) const TSS: u64 = 0x19_3000;
/// First byte behind the kernel's stack for events in ring 3.
pub(crate) const KERNEL_STACK: u64 = 0x19_6000;
/// First byte behind the first stack of the interrupt stack table.
pub(crate) const IST_STACK: u64 = 0x19_8000;
/// The handler of vector `n` is at this plus `16 * n`.
pub(crate) const HANDLERS: u64 = 0x1a_0000;

/// A vector whose gate programs may use.
pub(crate) const USER_VECTOR: u8 = 0x80;
/// A vector whose gate is a trap gate.
pub(crate) const TRAP_VECTOR: u8 = 0x81;
/// A vector whose handler has a stack of its own.
pub(crate) const IST_VECTOR: u8 = 0x82;
/// A vector whose gate is not present.
pub(crate) const ABSENT_VECTOR: u8 = 0x83;

const PRESENT: u8 = 0x80;
const INTERRUPT_GATE: u8 = 0xe;
const TRAP_GATE: u8 = 0xf;
const DPL_3: u8 = 0x60;

/// A gate of the interrupt table.
pub(crate) fn gate(handler: u64, selector: u16, stack: u8, access: u8) -> [u64; 2] {
    let low = handler & 0xffff
        | u64::from(selector) << 16
        | u64::from(stack) << 32
        | u64::from(access) << 40
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

fn gate_of(vector: u8) -> [u64; 2] {
    let handler = HANDLERS + u64::from(vector) * 16;
    let access = match vector {
        USER_VECTOR => PRESENT | INTERRUPT_GATE | DPL_3,
        TRAP_VECTOR => PRESENT | TRAP_GATE,
        ABSENT_VECTOR => INTERRUPT_GATE,
        _ => PRESENT | INTERRUPT_GATE,
    };
    gate(handler, KERNEL_CODE, u8::from(vector == IST_VECTOR), access)
}

/// Writes 64-bit words to guest memory.
pub(crate) fn put(memory: &GuestMemory, at: u64, words: &[u64]) {
    for (at, word) in (at..).step_by(8).zip(words) {
        memory.write_obj(*word, GuestAddress(at)).unwrap();
    }
}

fn write_tables(memory: &GuestMemory) {
    let task = 0x0000_8900_0000_0067 | (TSS & 0xff_ffff) << 16;
    let gdt = [
        0,
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0,
        task | 0x200_0000_0000,
        0,
        task,
        0,
        0x0000_8200_0000_000f | (GDT & 0xff_ffff) << 16,
        0,
        0x00af_1b00_0000_ffff,
        0x12cf_f234_5678_ffff,
    ];
    put(memory, GDT, &gdt);
    for vector in 0..=255 {
        put(memory, IDT + u64::from(vector) * 16, &gate_of(vector));
    }
    put(memory, TSS + 4, &[KERNEL_STACK]);
    put(memory, TSS + 0x24, &[IST_STACK]);
    memory.write_obj(0x68u16, GuestAddress(TSS + 0x66)).unwrap();
}

/// An interpreter in ring 0 that is about to run `code`, all tables in place.
pub(crate) fn interpreter(code: &[u8]) -> Interpreter {
    interpreter_with(code, |_| {})
}

/// The same, after `prepare` has changed its memory.
pub(crate) fn interpreter_with(code: &[u8], prepare: impl FnOnce(&GuestMemory)) -> Interpreter {
    let (memory, mut interpreter) = memory_interpreter(code);
    write_tables(&memory);
    prepare(&memory);
    let sregs = &mut interpreter.cpu.sregs;
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, 0x7f);
    (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
    sregs.tr.base = TSS;
    (sregs.tr.limit, sregs.tr.selector, sregs.tr.type_, sregs.tr.present) = (0x67, TASK, 11, 1);
    sregs.ldt.unusable = 1;
    interpreter
}

/// Puts the CPU into ring 3, its registers otherwise as they are.
pub(crate) fn enter_ring3(cpu: &mut Cpu) {
    for (selector, is_code) in [(USER_CODE, true), (USER_DATA, false)] {
        let found = cpu.descriptor(selector).unwrap().unwrap();
        let segment = found.descriptor.load(selector);
        *(if is_code { &mut cpu.sregs.cs } else { &mut cpu.sregs.ss }) = segment;
    }
    cpu.user = true;
}

/// An interpreter in ring 3 that is about to run `code`.
pub(crate) fn user_interpreter(code: &[u8]) -> Interpreter {
    let mut interpreter = interpreter(code);
    enter_ring3(&mut interpreter.cpu);
    interpreter
}

/// The words on top of the stack.
pub(crate) fn stack<const N: usize>(cpu: &mut Cpu) -> [u64; N] {
    let top = cpu.regs[usize::from(RSP)];
    std::array::from_fn(|index| cpu.read_system::<u64>(top + 8 * index as u64).unwrap())
}

/// Runs the one instruction `code` in ring 0 after `prepare`, and returns the CPU with what stopped it.
pub(crate) fn run_one(code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> (Cpu, Result<(), Stop>) {
    let mut interpreter = interpreter(code);
    prepare(&mut interpreter.cpu);
    let result = interpreter.step();
    (interpreter.cpu, result)
}

/// Runs the one instruction `code`, which must succeed, in ring 0 after `prepare`.
pub(crate) fn run_well(code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> Cpu {
    let (cpu, result) = run_one(code, prepare);
    assert!(matches!(result, Ok(()) | Err(Stop::Done)), "{result:?} {:?}", cpu.exception);
    cpu
}

/// Runs the one instruction `code`, which must raise an exception and change nothing, after `prepare`. Returns the vector
/// and the error code.
pub(crate) fn run_badly(code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> (u8, Option<u32>) {
    let mut before = None;
    let (mut cpu, result) = run_one(code, |cpu| {
        prepare(cpu);
        before = Some(cpu.export());
    });
    assert_eq!(result, Err(Stop::Fault));
    assert_eq!(cpu.rip, CODE);
    assert_eq!(Some(cpu.export()), before, "a fault changes nothing");
    let exception = cpu.exception.take().unwrap();
    (exception.vector, exception.error_code)
}

/// The stack that code under test starts with.
pub(crate) const START_STACK: u64 = STACK;
