use super::super::super::super::flags::{CF, FIXED, RF, ZF};
use super::super::super::super::testing::tables::{
    ABSENT_CODE, BASED_DATA, GDT, IDT, KERNEL_CODE, KERNEL_DATA, START_STACK, TASK, USER_CODE, USER_CODE_32,
    USER_DATA, enter_ring3, run_badly, run_one,
};
use super::*;

const IRETQ: &[u8] = &[0x48, 0xcf];
const TARGET: u64 = 0x7000;
const NEW_STACK: u64 = 0x1_2345;
const FRAME: u64 = START_STACK - 40;

/// Puts a frame on the stack: CS, RFLAGS, SS.
fn frame(cpu: &mut Cpu, code: u16, flags: u64, stack: u16) {
    for (at, word) in (FRAME..).step_by(8).zip([TARGET, code.into(), flags, NEW_STACK, stack.into()]) {
        cpu.write_system::<u64>(at, word).unwrap();
    }
    cpu.regs[usize::from(RSP)] = FRAME;
}

#[test]
fn it_returns_within_the_kernel() {
    let (cpu, result) = run_one(IRETQ, |cpu| {
        frame(cpu, KERNEL_CODE, IF | ZF | RF | IOPL, KERNEL_DATA);
        cpu.system.nmi_blocked = true;
    });
    assert_eq!((result, cpu.user), (Err(Stop::Done), false), "{:?}", cpu.exception);
    assert_eq!((cpu.rip, cpu.regs[usize::from(RSP)]), (TARGET, NEW_STACK));
    assert_eq!(cpu.flags.get(), IF | ZF | IOPL | FIXED);
    assert_eq!((cpu.sregs.cs.selector, cpu.sregs.ss.selector), (KERNEL_CODE, KERNEL_DATA));
    assert!(!cpu.system.nmi_blocked);
}

#[test]
fn the_kernel_needs_no_stack_segment() {
    let (cpu, result) = run_one(IRETQ, |cpu| frame(cpu, KERNEL_CODE, 0, 0));
    assert_eq!((result, cpu.sregs.ss.selector, cpu.sregs.ss.unusable), (Err(Stop::Done), 0, 1));
}

#[test]
fn it_returns_to_programs_without_the_kernels_segments() {
    for (selector, long) in [(USER_CODE, 1), (USER_CODE_32, 0)] {
        let (cpu, result) = run_one(IRETQ, |cpu| {
            frame(cpu, selector, IF | CF, USER_DATA);
            cpu.bases[1] = 0x1000;
        });
        assert_eq!((result, cpu.user), (Err(Stop::Done), true), "{:?}", cpu.exception);
        assert_eq!((cpu.sregs.cs.selector, cpu.sregs.cs.dpl, cpu.sregs.cs.l), (selector, 3, long));
        assert_eq!((cpu.sregs.ss.selector, cpu.sregs.ss.dpl), (USER_DATA, 3));
        assert_eq!((cpu.sregs.ds.selector, cpu.sregs.ds.unusable), (0, 1));
        assert_eq!(cpu.export().1.fs.base, 0x1000, "the base stays");
    }
}

#[test]
fn segments_of_programs_stay() {
    let (cpu, _) = run_one(IRETQ, |cpu| {
        frame(cpu, USER_CODE, 0, USER_DATA);
        cpu.sregs.ds.dpl = 3;
    });
    assert_eq!((cpu.sregs.ds.selector, cpu.sregs.ds.unusable), (KERNEL_DATA, 0));
}

#[test]
fn programs_change_neither_iopl_nor_the_interrupt_flag() {
    let (cpu, result) = run_one(IRETQ, |cpu| {
        enter_ring3(cpu);
        cpu.flags.set(IF);
        frame(cpu, USER_CODE, IOPL | CF, USER_DATA);
    });
    assert_eq!((result, cpu.flags.get()), (Err(Stop::Done), IF | CF | FIXED));
}

#[test]
fn bad_segments_fault_at_the_iret() {
    let cases = [
        (0, KERNEL_DATA, (13, 0)),
        (3, USER_DATA, (13, 0)),
        (0xfff8, KERNEL_DATA, (13, 0xfff8)),
        (KERNEL_DATA, KERNEL_DATA, (13, KERNEL_DATA)),
        (TASK, KERNEL_DATA, (13, TASK)),
        (KERNEL_CODE | 3, USER_DATA, (13, KERNEL_CODE)),
        (KERNEL_CODE | 1, KERNEL_DATA, (13, KERNEL_CODE)),
        (USER_CODE & !3, KERNEL_DATA, (13, USER_CODE & !3)),
        (ABSENT_CODE, KERNEL_DATA, (11, ABSENT_CODE)),
        (USER_CODE, 0, (13, 0)),
        (USER_CODE, 3, (13, 0)),
        (USER_CODE_32, 0, (13, 0)),
        (USER_CODE, KERNEL_DATA, (13, KERNEL_DATA)),
        (USER_CODE, KERNEL_DATA | 3, (13, KERNEL_DATA)),
        (USER_CODE, USER_CODE, (13, USER_CODE & !3)),
        (USER_CODE, 0xfffb, (13, 0xfff8)),
        (KERNEL_CODE, USER_DATA, (13, USER_DATA & !3)),
    ];
    for (code, stack, (vector, error_code)) in cases {
        let raised = run_badly(IRETQ, |cpu| frame(cpu, code, 0, stack));
        assert_eq!(raised, (vector, Some(error_code.into())), "cs {code:#x}, ss {stack:#x}");
    }
}

#[test]
fn a_stack_segment_that_is_not_present_is_a_stack_fault() {
    let raised = run_badly(IRETQ, |cpu| {
        let at = GDT + u64::from(BASED_DATA & !7) + 5;
        cpu.write_system::<u8>(at, 0x72).unwrap();
        frame(cpu, USER_CODE, 0, BASED_DATA);
    });
    assert_eq!(raised, (12, Some(u32::from(BASED_DATA & !3))));
}

#[test]
fn addresses_must_exist() {
    let bad_rip = run_badly(IRETQ, |cpu| {
        frame(cpu, USER_CODE, 0, USER_DATA);
        cpu.write_system::<u64>(FRAME, 1 << 47).unwrap();
    });
    let high_rip = run_badly(IRETQ, |cpu| {
        frame(cpu, USER_CODE_32, 0, USER_DATA);
        cpu.write_system::<u64>(FRAME, 1 << 32).unwrap();
    });
    assert_eq!((bad_rip, high_rip), ((13, Some(0)), (13, Some(0))));
    let bad_stack = run_badly(IRETQ, |cpu| cpu.regs[usize::from(RSP)] = (1 << 47) - 8);
    assert_eq!(bad_stack, (12, Some(0)));
    let (vector, _) = run_badly(IRETQ, |cpu| cpu.regs[usize::from(RSP)] = 0x1f_fff0);
    assert_eq!(vector, 14, "the stack is not mapped");
}

#[test]
fn a_nested_task_cannot_be_left() {
    let raised = run_badly(IRETQ, |cpu| {
        frame(cpu, KERNEL_CODE, 0, KERNEL_DATA);
        cpu.flags.set(NT);
    });
    assert_eq!(raised, (13, Some(0)));
}

#[test]
fn it_returns_from_any_frame_without_a_panic() {
    for word in [0, 1, 0x33, u64::MAX, 1 << 63, IDT, 0x8000_0000_0000_0023] {
        let (_, result) = run_one(IRETQ, |cpu| {
            for at in (FRAME..START_STACK).step_by(8) {
                cpu.write_system::<u64>(at, word).unwrap();
            }
            cpu.regs[usize::from(RSP)] = FRAME;
        });
        assert!(result.is_err(), "{word:#x}");
    }
}
