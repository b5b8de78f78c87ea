use super::super::cpu::RSP;
use super::super::flags::{CF, DF, FIXED, IF, NT, RF, TF};
use super::super::testing::tables::{
    ABSENT_CODE, ABSENT_VECTOR, GDT, HANDLERS, IDT, IST_STACK, IST_VECTOR, KERNEL_CODE, KERNEL_DATA,
    KERNEL_STACK, START_STACK, TASK, TRAP_VECTOR, TSS, USER_CODE, USER_DATA, gate, interpreter, stack,
    user_interpreter,
};
use super::super::testing::{CODE, DATA, TABLES};
use super::*;

const RSP_INDEX: usize = RSP as usize;
const VECTOR: u8 = 0x40;
const PRESENT_GATE: u8 = 0x8e;

fn handler(vector: u8) -> u64 {
    HANDLERS + 16 * u64::from(vector)
}

fn kernel() -> Cpu {
    interpreter(&[]).cpu
}

fn program() -> Cpu {
    user_interpreter(&[]).cpu
}

fn set_gate(cpu: &mut Cpu, vector: u8, words: [u64; 2]) {
    for (at, word) in (IDT + 16 * u64::from(vector)..).step_by(8).zip(words) {
        cpu.write_system::<u64>(at, word).unwrap();
    }
}

/// Takes the page of `linear` away.
fn unmap(cpu: &mut Cpu, linear: u64) {
    cpu.write_system::<u64>(TABLES + 0x3000 + linear / 0x1000 * 8, 0).unwrap();
    cpu.mmu.flush_all();
}

/// Delivers an event, and says through which vector it came in the end, with what error code.
fn arrives_as(mut cpu: Cpu, event: Event) -> Result<(u64, u64), Undelivered> {
    deliver(&mut cpu, event)?;
    let [error_code] = stack(&mut cpu);
    Ok(((cpu.rip - HANDLERS) / 16, error_code))
}

#[test]
fn an_interrupt_in_the_kernel_stays_on_its_stack() {
    let mut cpu = kernel();
    cpu.flags.set(IF | TF | NT | DF | CF);
    cpu.regs[RSP_INDEX] = START_STACK - 3;
    deliver(&mut cpu, Event::Interrupt(VECTOR)).unwrap();
    assert_eq!((cpu.rip, cpu.regs[RSP_INDEX]), (handler(VECTOR), START_STACK - 16 - 40), "aligned to 16");
    let flags = IF | TF | NT | DF | CF | FIXED;
    let frame = [CODE, KERNEL_CODE.into(), flags, START_STACK - 3, KERNEL_DATA.into()];
    assert_eq!(stack(&mut cpu), frame);
    assert_eq!(cpu.flags.get(), DF | CF | FIXED);
    assert_eq!((cpu.user, cpu.sregs.ss.selector), (false, KERNEL_DATA));
}

#[test]
fn an_event_in_ring_3_switches_to_the_kernels_stack() {
    let mut cpu = program();
    cpu.flags.set(IF);
    deliver(&mut cpu, Event::Exception(Exception::page_fault(0x1234, 6))).unwrap();
    assert_eq!((cpu.rip, cpu.user, cpu.sregs.cr2), (handler(14), false, 0x1234));
    assert_eq!(cpu.regs[RSP_INDEX], KERNEL_STACK - 48);
    let frame = [6, CODE, USER_CODE.into(), IF | RF | FIXED, START_STACK, USER_DATA.into()];
    assert_eq!(stack(&mut cpu), frame);
    assert_eq!((cpu.sregs.cs.selector, cpu.sregs.cs.l, cpu.sregs.cs.dpl), (KERNEL_CODE, 1, 0));
    assert_eq!((cpu.sregs.ss.selector, cpu.sregs.ss.unusable), (0, 1));
}

#[test]
fn trap_gates_leave_interrupts_enabled() {
    let mut cpu = kernel();
    cpu.flags.set(IF);
    deliver(&mut cpu, Event::Interrupt(TRAP_VECTOR)).unwrap();
    assert_eq!(cpu.flags.get() & IF, IF);
}

#[test]
fn only_faults_resume_over_breakpoints() {
    for (vector, resumes) in
        [(6, true), (13, true), (14, true), (1, false), (3, false), (4, false), (8, false), (18, false)]
    {
        let mut cpu = kernel();
        let exception = Exception { vector, error_code: None, address: None };
        deliver(&mut cpu, Event::Exception(exception)).unwrap();
        let [_, _, flags] = stack(&mut cpu);
        assert_eq!(flags & RF != 0, resumes, "vector {vector}");
    }
}

#[test]
fn a_handler_may_have_a_stack_of_its_own() {
    for mut cpu in [kernel(), program()] {
        deliver(&mut cpu, Event::Interrupt(IST_VECTOR)).unwrap();
        assert_eq!(cpu.regs[RSP_INDEX], IST_STACK - 40);
    }
}

#[test]
fn nmis_are_blocked_until_their_handler_returns() {
    let mut cpu = kernel();
    deliver(&mut cpu, Event::Nmi).unwrap();
    assert_eq!((cpu.rip, cpu.system.nmi_blocked), (handler(2), true));
    let mut cpu = kernel();
    deliver(&mut cpu, Event::Interrupt(VECTOR)).unwrap();
    assert!(!cpu.system.nmi_blocked);
}

#[test]
fn bad_gates_become_faults_that_name_them() {
    let code = |vector: u8| u64::from(vector) * 8 + 3;
    assert_eq!(arrives_as(kernel(), Event::Interrupt(ABSENT_VECTOR)), Ok((11, code(ABSENT_VECTOR))));
    for words in [
        gate(handler(VECTOR), KERNEL_CODE, 0, 0x8c),
        gate(handler(VECTOR), KERNEL_CODE, 0, 0x85),
        gate(handler(VECTOR), KERNEL_CODE, 0, 0x9e),
    ] {
        let mut cpu = kernel();
        set_gate(&mut cpu, VECTOR, words);
        assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((13, code(VECTOR))), "{words:x?}");
    }
    let mut cpu = kernel();
    cpu.sregs.idt.limit = u16::from(VECTOR) * 16 + 14;
    assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((13, code(VECTOR))));
}

#[test]
fn bad_handlers_become_faults_that_name_their_segment() {
    for (selector, vector, error_code) in [
        (0, 13, 1),
        (KERNEL_DATA, 13, u64::from(KERNEL_DATA) + 1),
        (USER_CODE, 13, u64::from(USER_CODE & !3) + 1),
        (TASK, 13, u64::from(TASK) + 1),
        (0xfff8, 13, 0xfff9),
        (ABSENT_CODE, 11, u64::from(ABSENT_CODE) + 1),
    ] {
        let mut cpu = kernel();
        set_gate(&mut cpu, VECTOR, gate(handler(VECTOR), selector, 0, PRESENT_GATE));
        assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((vector, error_code)), "{selector:#x}");
    }
    let mut cpu = kernel();
    set_gate(&mut cpu, VECTOR, gate(1 << 47, KERNEL_CODE, 0, PRESENT_GATE));
    assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((13, 1)), "no such address");
}

#[test]
fn bad_stacks_become_faults_of_their_own() {
    // The handlers of these faults run on the good stack of the interrupt stack table.
    let with_ist = |mut cpu: Cpu| {
        for vector in 8..=14u8 {
            set_gate(&mut cpu, vector, gate(handler(vector), KERNEL_CODE, 1, PRESENT_GATE));
        }
        cpu
    };
    let mut cpu = with_ist(kernel());
    cpu.regs[RSP_INDEX] = (1 << 47) + 16;
    assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((12, 1)), "no such address");
    let mut cpu = with_ist(kernel());
    unmap(&mut cpu, DATA);
    cpu.regs[RSP_INDEX] = DATA + 0x1000;
    assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((14, 2)), "a page fault by a write");
    let mut cpu = with_ist(program());
    cpu.sregs.tr.limit = 0x2b;
    set_gate(&mut cpu, 10, gate(handler(10), KERNEL_CODE, 0, PRESENT_GATE));
    set_gate(&mut cpu, VECTOR, gate(handler(VECTOR), KERNEL_CODE, 2, PRESENT_GATE));
    assert_eq!(arrives_as(cpu, Event::Interrupt(VECTOR)), Ok((10, u64::from(TASK) + 1)));
}

#[test]
fn a_frame_may_straddle_pages_but_is_written_whole_or_not_at_all() {
    let mut cpu = kernel();
    cpu.regs[RSP_INDEX] = DATA + 0x1010;
    deliver(&mut cpu, Event::Interrupt(VECTOR)).unwrap();
    assert_eq!(stack::<2>(&mut cpu), [CODE, KERNEL_CODE.into()]);
    let mut cpu = kernel();
    unmap(&mut cpu, DATA);
    unmap(&mut cpu, IST_STACK - 1);
    set_gate(&mut cpu, 14, gate(handler(14), KERNEL_CODE, 1, PRESENT_GATE));
    set_gate(&mut cpu, 8, gate(handler(8), KERNEL_CODE, 1, PRESENT_GATE));
    cpu.regs[RSP_INDEX] = DATA + 0x1010;
    assert_eq!(deliver(&mut cpu, Event::Interrupt(VECTOR)), Err(Undelivered::TripleFault));
    assert_eq!(cpu.read_system::<u64>(DATA + 0x1008), Ok(0));
}

#[test]
fn a_stack_on_a_page_of_code_is_tried_again() {
    let mut cpu = kernel();
    let page = usize::try_from(DATA).unwrap();
    cpu.mmu.set_code(page, true);
    cpu.regs[RSP_INDEX] = DATA + 0x800;
    let before = cpu.export();
    assert_eq!(deliver(&mut cpu, Event::Interrupt(VECTOR)), Err(Undelivered::Code));
    assert_eq!((cpu.code_written, cpu.export()), (page, before));
    cpu.mmu.set_code(page, false);
    assert_eq!(deliver(&mut cpu, Event::Interrupt(VECTOR)), Ok(()));
}

#[test]
fn two_exceptions_make_a_double_fault_where_the_manual_says() {
    let page_fault = Exception::page_fault(0, 0);
    let (protection, divide) = (Exception::general_protection(0), Exception::DIVIDE);
    let double = Some(Exception::DOUBLE_FAULT);
    for (first, second, expected) in [
        (None, protection, Some(protection)),
        (Some(6), protection, Some(protection)),
        (Some(13), protection, double),
        (Some(0), divide, double),
        (Some(13), page_fault, Some(page_fault)),
        (Some(14), page_fault, double),
        (Some(14), protection, double),
        (Some(14), Exception::BREAKPOINT, Some(Exception::BREAKPOINT)),
        (Some(8), protection, None),
        (Some(8), page_fault, None),
    ] {
        assert_eq!(combine(first, second), expected, "{first:?} {second:?}");
    }
}

#[test]
fn double_and_triple_faults_come_of_tables_without_handlers() {
    let mut cpu = kernel();
    set_gate(&mut cpu, 13, [0; 2]);
    assert_eq!(arrives_as(cpu, Event::Exception(Exception::general_protection(7))), Ok((8, 0)));
    let mut cpu = kernel();
    cpu.sregs.idt.limit = 0;
    for exception in [Exception::DIVIDE, Exception::page_fault(1, 0), Exception::INVALID_OPCODE] {
        assert_eq!(deliver(&mut cpu, Event::Exception(exception)), Err(Undelivered::TripleFault));
    }
}

#[test]
fn tables_that_are_nowhere_end_in_a_triple_fault() {
    let spoil: [fn(&mut Cpu); 4] = [
        |cpu| cpu.sregs.idt.base = 0x4000_0000,
        |cpu| cpu.sregs.idt.base = u64::MAX - 7,
        |cpu| cpu.sregs.gdt.base = 1 << 50,
        |cpu| unmap(cpu, GDT),
    ];
    for spoil in spoil {
        let mut cpu = program();
        spoil(&mut cpu);
        let before = cpu.regs;
        assert_eq!(deliver(&mut cpu, Event::Interrupt(VECTOR)), Err(Undelivered::TripleFault));
        assert_eq!((cpu.regs, cpu.rip, cpu.user), (before, CODE, true));
    }
    let mut cpu = program();
    unmap(&mut cpu, TSS);
    assert_eq!(deliver(&mut cpu, Event::Interrupt(VECTOR)), Err(Undelivered::TripleFault));
}
