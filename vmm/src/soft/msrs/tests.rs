use std::sync::Arc;
use std::time::Duration;

use super::super::clock::Clock;
use super::super::testing::tables;
use super::*;
use crate::cpu::control_bits::{EFER_LMA, EFER_LME, EFER_SCE};

const X2APIC_ID: u32 = 0x802;
const APIC_BASE: u32 = 0x1b;

fn cpu() -> Cpu {
    let mut cpu = tables::interpreter(&[]).cpu;
    cpu.system.clock = Clock::new(|| 1_000, 1_000_000, Duration::new(1_700_000_000, 7));
    cpu
}

fn is_refused(cpu: &mut Cpu, index: u32, value: u64) -> bool {
    cpu.exception = None;
    let result = cpu.write_msr(index, value);
    result == Err(Stop::Fault) && cpu.exception.unwrap().vector == 13
}

#[test]
fn registers_keep_what_is_written() {
    let mut cpu = cpu();
    for index in
        [STAR, LSTAR, CSTAR, FMASK, FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX, 0x174, 0x20f, 0x250, 0x26f]
    {
        cpu.write_msr(index, 0x1234).unwrap();
        assert_eq!(cpu.read_msr(index), Ok(0x1234), "{index:#x}");
    }
    assert_eq!(cpu.bases[usize::from(FS)], 0x1234);
}

#[test]
fn unknown_registers_and_impossible_values_raise_general_protection() {
    const NOT_CANONICAL: u64 = 1 << 50;
    let mut cpu = cpu();
    for (index, value) in [
        (LSTAR, NOT_CANONICAL),
        (CSTAR, NOT_CANONICAL),
        (FS_BASE, NOT_CANONICAL),
        (KERNEL_GS_BASE, NOT_CANONICAL),
        (FMASK, 1 << 32),
        (TSC_AUX, 1 << 32),
        (0x277, 2),
        (0x179, 1),
        (0x48, 1),
        (0x11, 1),
        (0xffff_ffff, 0),
        (X2APIC_ID, 0),
    ] {
        assert!(is_refused(&mut cpu, index, value), "{index:#x} = {value:#x}");
    }
    assert_eq!(cpu.read_msr(0x48), Err(Stop::Fault));
    assert_eq!(cpu.read_msr(X2APIC_ID), Err(Stop::Fault), "without controllers");
}

#[test]
fn long_mode_cannot_be_left_by_efer() {
    let mut cpu = cpu();
    let efer = cpu.read_msr(EFER).unwrap();
    assert_eq!(cpu.write_msr(EFER, efer | EFER_SCE), Err(Stop::Done));
    assert_eq!(cpu.write_msr(EFER, efer & !EFER_LMA), Err(Stop::Done), "LMA is not written");
    assert_eq!(cpu.read_msr(EFER), Ok(efer));
    for changed in [efer ^ EFER_LME, efer | 1 << 12, efer | 1 << 63] {
        assert!(is_refused(&mut cpu, EFER, changed), "{changed:#x}");
    }
    assert_eq!((cpu.mmu.paging.efer, cpu.sregs.efer), (efer, efer));
}

#[test]
fn the_time_is_written_to_where_the_guest_wants_it() {
    let mut cpu = cpu();
    let word = |cpu: &Cpu, at: usize| cpu.mmu.ram.load::<u64>(at);
    cpu.write_msr(KVM_SYSTEM_TIME, 0x8000).unwrap();
    assert_eq!(word(&cpu, 0x8000), 0, "not enabled");
    cpu.write_msr(KVM_SYSTEM_TIME, 0x8ff0 | ENABLED).unwrap();
    assert_eq!((word(&cpu, 0x8ff0), word(&cpu, 0x8ff8), word(&cpu, 0x9000)), (2, 1_000, 0));
    assert_eq!(cpu.read_msr(KVM_SYSTEM_TIME), Ok(0x8ff0 | ENABLED));
    cpu.write_msr(KVM_WALL_CLOCK, 0x8100).unwrap();
    assert_eq!((word(&cpu, 0x8100), word(&cpu, 0x8108)), (1_700_000_000 << 32 | 4, 7));
    cpu.write_msr(KVM_WALL_CLOCK, u64::MAX).unwrap();
    cpu.write_msr(KVM_SYSTEM_TIME, u64::MAX - 8).unwrap();
}

#[test]
fn the_time_stamp_counter_is_the_clocks() {
    let mut cpu = cpu();
    cpu.write_msr(TSC, 5).unwrap();
    assert_eq!(cpu.read_msr(TSC), Ok(1_000));
}

#[test]
fn the_local_apics_registers_are_the_controllers() {
    let mut cpu = cpu();
    cpu.system.controllers = Some(Controllers::new(Arc::new(|| {}), 1_000_000, true));
    let base = cpu.read_msr(APIC_BASE).unwrap();
    assert_eq!(cpu.write_msr(APIC_BASE, base | 1 << 10), Err(Stop::Done));
    assert_eq!(cpu.read_msr(X2APIC_ID), Ok(0));
    assert!(is_refused(&mut cpu, X2APIC_ID, 1));
}
