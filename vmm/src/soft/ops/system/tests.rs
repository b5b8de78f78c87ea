//! Guests may fill tables and registers with anything.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vm_memory::{Bytes, GuestAddress};

use super::super::super::exception::{Event, Undelivered, deliver};
use super::super::super::step::Exception;
use super::super::super::testing::tables::{
    GDT, IDT, START_STACK, TASK, TSS, enter_ring3, gate, interpreter_with, put,
};
use super::super::super::testing::{CODE, DATA};

/// One of each system instruction that reads tables, with its operands in AX, [RBX] and on the stack.
const INSTRUCTIONS: [&[u8]; 22] = [
    &[0x48, 0xcf],
    &[0x48, 0xcb],
    &[0x48, 0xff, 0x2b],
    &[0x48, 0xff, 0x1b],
    &[0xcd, 0x07],
    &[0xcc],
    &[0x8e, 0xd0],
    &[0x8e, 0xd8],
    &[0x8e, 0xe0],
    &[0x0f, 0xa9],
    &[0x48, 0x0f, 0xb2, 0x0b],
    &[0x0f, 0x00, 0xd0],
    &[0x0f, 0x00, 0xd8],
    &[0x0f, 0x00, 0xe8],
    &[0x0f, 0x02, 0xc8],
    &[0x0f, 0x03, 0xc8],
    &[0x0f, 0x01, 0x13],
    &[0x0f, 0x01, 0x1b],
    &[0x0f, 0x22, 0xd8],
    &[0x0f, 0x22, 0xc0],
    &[0x0f, 0x30],
    &[0xee],
];

/// Selectors, addresses of the tables, and anything else.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..0x100, select(vec![GDT, IDT, TSS, DATA, CODE, START_STACK, u64::MAX]), any::<u64>()]
}

/// Descriptors of which most are of a kind that is looked at closely.
fn descriptor() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0x80u64..0x100, any::<bool>()).prop_map(|(random, access, is_sane)| {
        if is_sane { random & !0xff_0000_000f_0000 | access << 40 | 0x20_0000_0000_0000 } else { random }
    })
}

/// Gates of which most lead to a segment of the table.
fn any_gate() -> impl Strategy<Value = [u64; 2]> {
    (word(), 0u16..0x80, 0u8..8, 0x80u8..0xff)
        .prop_map(|(handler, selector, stack, access)| gate(handler, selector, stack, access & 0xf0 | 0xe))
}

proptest! {
    #[test]
    fn no_tables_make_an_instruction_or_an_event_panic(
        code in select(&INSTRUCTIONS[..]),
        registers in vec(word(), 16),
        stack in vec(word(), 8),
        descriptors in vec(descriptor(), 16),
        gates in vec(any_gate(), 32),
        task in vec(any::<u8>(), 0x68),
        limits in any::<[u16; 3]>(),
        user: bool,
        vector in 0u8..32,
    ) {
        let mut interpreter = interpreter_with(code, |memory| {
            put(memory, GDT, &descriptors);
            put(memory, IDT, gates.as_flattened());
            memory.write_slice(&task, GuestAddress(TSS)).unwrap();
            put(memory, START_STACK - 64, &stack);
            put(memory, DATA, &stack);
        });
        let cpu = &mut interpreter.cpu;
        if user && cpu.descriptor(0x33).is_ok_and(|found| found.is_some()) {
            enter_ring3(cpu);
        }
        cpu.regs[..16].copy_from_slice(&registers);
        cpu.regs[4] = START_STACK - 64;
        cpu.regs[3] = DATA;
        cpu.sregs.gdt.limit = limits[0] % 0x100;
        cpu.sregs.idt.limit = limits[1] % 0x400;
        (cpu.sregs.tr.limit, cpu.sregs.tr.selector) = (u32::from(limits[2] % 0x80), TASK);
        let _ = interpreter.step();
        let cpu = &mut interpreter.cpu;
        let exception = cpu.exception.take().unwrap_or(Exception::DIVIDE);
        for event in [Event::Exception(exception), Event::Interrupt(vector), Event::Nmi] {
            let (before, rip) = (cpu.regs, cpu.rip);
            if deliver(cpu, event) != Ok(()) {
                prop_assert_eq!((cpu.regs, cpu.rip), (before, rip), "what is not delivered changes nothing");
            }
        }
        prop_assert_ne!(deliver(cpu, Event::Nmi), Err(Undelivered::Code), "no code was remembered");
    }
}
