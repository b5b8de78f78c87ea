use super::super::super::super::cpu::{FS, GS, RAX, RBX};
use super::super::super::super::step::Stop;
use super::super::super::super::testing::DATA;
use super::super::super::super::testing::tables::{
    ABSENT_CODE, BASE, BASED_DATA, GDT, KERNEL_CODE, KERNEL_DATA, START_STACK, TASK, USER_CODE, USER_DATA,
    enter_ring3, run_badly, run_one, run_well,
};
use super::*;

const AX: usize = RAX as usize;
/// mov <segment>, ax
const MOV_ES: &[u8] = &[0x8e, 0xc0];
const MOV_SS: &[u8] = &[0x8e, 0xd0];
const MOV_DS: &[u8] = &[0x8e, 0xd8];
const MOV_FS: &[u8] = &[0x8e, 0xe0];
const MOV_GS: &[u8] = &[0x8e, 0xe8];

#[test]
fn fs_and_gs_take_the_base_of_their_segment() {
    for (code, number) in [(MOV_FS, FS), (MOV_GS, GS)] {
        let cpu = run_well(code, |cpu| cpu.regs[AX] = BASED_DATA.into());
        assert_eq!(cpu.bases[usize::from(number)], BASE);
        let cpu = run_well(code, |cpu| cpu.bases[usize::from(number)] = 5);
        assert_eq!(cpu.bases[usize::from(number)], 0, "a null selector clears it");
    }
    let cpu = run_well(MOV_ES, |cpu| cpu.regs[AX] = BASED_DATA.into());
    assert_eq!((cpu.sregs.es.selector, cpu.sregs.es.base, cpu.bases[0]), (BASED_DATA, BASE, 0));
}

#[test]
fn a_loaded_segment_is_marked_in_its_table() {
    let mut cpu = run_well(MOV_DS, |cpu| cpu.regs[AX] = BASED_DATA.into());
    assert_eq!(cpu.read_system::<u8>(GDT + u64::from(BASED_DATA & !7) + 5), Ok(0xf3));
    assert_eq!((cpu.sregs.ds.type_, cpu.sregs.ds.unusable), (3, 0));
}

#[test]
fn no_interrupt_is_taken_right_behind_a_new_stack_segment() {
    let (cpu, result) = run_one(MOV_SS, |cpu| cpu.regs[AX] = KERNEL_DATA.into());
    assert_eq!((result, cpu.shadow), (Err(Stop::Done), true));
    let (cpu, result) = run_one(MOV_SS, |_| {});
    assert_eq!((result, cpu.sregs.ss.unusable), (Err(Stop::Done), 1), "none at all");
    assert!(!run_well(MOV_DS, |_| {}).shadow);
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    for (code, selector, vector, error_code) in [
        (MOV_DS, 0xfff8, 13, 0xfff8),
        (MOV_DS, TASK, 13, TASK),
        (MOV_DS, KERNEL_DATA | 3, 13, KERNEL_DATA),
        (MOV_FS, ABSENT_CODE, 11, ABSENT_CODE),
        (MOV_SS, 3, 13, 0),
        (MOV_SS, USER_DATA, 13, USER_DATA & !3),
        (MOV_SS, KERNEL_CODE, 13, KERNEL_CODE),
        (MOV_SS, KERNEL_DATA | 4, 13, KERNEL_DATA | 4),
    ] {
        let raised = run_badly(code, |cpu| cpu.regs[AX] = selector.into());
        assert_eq!(raised, (vector, Some(error_code.into())), "{code:x?} {selector:#x}");
    }
    for (code, selector) in [(MOV_DS, KERNEL_DATA), (MOV_GS, KERNEL_CODE), (MOV_SS, KERNEL_DATA)] {
        let (vector, _) = run_badly(code, |cpu| {
            enter_ring3(cpu);
            cpu.regs[AX] = selector.into();
        });
        assert_eq!(vector, 13, "{selector:#x} in ring 3");
    }
}

#[test]
fn programs_load_their_own() {
    for (code, selector) in [(MOV_DS, USER_DATA), (MOV_SS, USER_DATA), (MOV_ES, USER_CODE), (MOV_FS, 3)] {
        let (cpu, result) = run_one(code, |cpu| {
            enter_ring3(cpu);
            cpu.regs[AX] = selector.into();
        });
        assert_ne!(result, Err(Stop::Fault), "{selector:#x}: {:?}", cpu.exception);
    }
}

#[test]
fn selectors_are_read_in_every_form() {
    // mov eax, cs; mov ax, ds; mov word [rax], ss
    let cpu = run_well(&[0x8c, 0xc8], |cpu| cpu.regs[AX] = !0);
    assert_eq!(cpu.regs[AX], u64::from(KERNEL_CODE));
    let cpu = run_well(&[0x66, 0x8c, 0xd8], |cpu| cpu.regs[AX] = !0);
    assert_eq!(cpu.regs[AX], !0xffff | u64::from(KERNEL_DATA));
    let mut cpu = run_well(&[0x8c, 0x10], |cpu| cpu.regs[AX] = DATA);
    assert_eq!(cpu.read::<u64>(DATA), Ok(KERNEL_DATA.into()));
    // mov fs, [rax]
    let cpu = run_well(&[0x8e, 0x20], |cpu| {
        cpu.regs[AX] = DATA;
        cpu.write::<u16>(DATA, BASED_DATA.into()).unwrap();
    });
    assert_eq!(cpu.bases[usize::from(FS)], BASE);
}

#[test]
fn fs_and_gs_are_pushed_and_popped() {
    // push fs; pop gs
    let mut cpu = run_well(&[0x0f, 0xa0], |cpu| cpu.sregs.fs.selector = 7);
    assert_eq!(cpu.read::<u64>(START_STACK - 8), Ok(7));
    cpu = run_well(&[0x0f, 0xa9], |cpu| {
        cpu.regs[STACK] = START_STACK - 8;
        cpu.write::<u64>(START_STACK - 8, BASED_DATA.into()).unwrap();
    });
    assert_eq!((cpu.bases[usize::from(GS)], cpu.regs[STACK]), (BASE, START_STACK));
    let raised = run_badly(&[0x0f, 0xa9], |cpu| {
        cpu.regs[STACK] = START_STACK - 8;
        cpu.write::<u64>(START_STACK - 8, 0xfff8).unwrap();
    });
    assert_eq!(raised, (13, Some(0xfff8)), "the stack pointer stays");
}

#[test]
fn far_pointers_load_both() {
    // lfs rbx, [rax]; lss ebx, [rax]
    let cpu = run_well(&[0x48, 0x0f, 0xb4, 0x18], |cpu| {
        cpu.regs[AX] = DATA;
        cpu.write::<u64>(DATA, 0x1234_5678_9abc).unwrap();
        cpu.write::<u16>(DATA + 8, BASED_DATA.into()).unwrap();
    });
    assert_eq!((cpu.regs[usize::from(RBX)], cpu.bases[usize::from(FS)]), (0x1234_5678_9abc, BASE));
    let cpu = run_well(&[0x0f, 0xb2, 0x18], |cpu| {
        cpu.regs[AX] = DATA;
        cpu.write::<u64>(DATA, u64::from(KERNEL_DATA) << 32 | 7).unwrap();
    });
    assert_eq!((cpu.regs[usize::from(RBX)], cpu.sregs.ss.selector, cpu.shadow), (7, KERNEL_DATA, false));
}
