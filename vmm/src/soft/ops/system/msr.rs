//! rdmsr, wrmsr.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX, RCX, RDX};
use super::super::super::step::{Step, Stop};
use super::super::super::word::Word;

fn index(cpu: &Cpu) -> u32 {
    u32::truncate(cpu.get::<u32>(RCX))
}

fn read(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.read_msr(index(cpu))?;
    cpu.set::<u32>(RAX, value);
    cpu.set::<u32>(RDX, value >> 32);
    Ok(())
}

fn write(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.get::<u32>(RDX) << 32 | cpu.get::<u32>(RAX);
    let written = cpu.write_msr(index(cpu), value);
    if matches!(written, Ok(()) | Err(Stop::Done)) {
        cpu.rip = op.next_rip(cpu);
    }
    written
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Rdmsr => Some(read),
        Mnemonic::Wrmsr => Some(write),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::CODE;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_one, run_well};
    use super::*;

    const RDMSR: &[u8] = &[0x0f, 0x32];
    const WRMSR: &[u8] = &[0x0f, 0x30];
    const KERNEL_GS_BASE: u64 = 0xc000_0102;
    const EFER: u64 = 0xc000_0080;

    fn registers(cpu: &mut Cpu, values: [u64; 3]) {
        for (register, value) in [RCX, RAX, RDX].into_iter().zip(values) {
            cpu.regs[usize::from(register)] = value;
        }
    }

    #[test]
    fn the_value_is_in_edx_and_eax() {
        let cpu = run_well(WRMSR, |cpu| {
            registers(cpu, [KERNEL_GS_BASE, !0 << 32 | 0x8765_4321, !0 << 32 | 0x1234])
        });
        assert_eq!((cpu.system.msrs.kernel_gs_base, cpu.rip), (0x1234_8765_4321, CODE + 2));
        let cpu = run_well(RDMSR, |cpu| {
            registers(cpu, [!0 << 32 | KERNEL_GS_BASE, !0, !0]);
            cpu.system.msrs.kernel_gs_base = 0x1234_8765_4321;
        });
        assert_eq!((cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RDX)]), (0x8765_4321, 0x1234));
    }

    #[test]
    fn the_interpreter_looks_at_changes_of_paging() {
        let (cpu, result) = run_one(WRMSR, |cpu| registers(cpu, [EFER, cpu.mmu.paging.efer | 1, 0]));
        assert_eq!((result, cpu.rip), (Err(Stop::Done), CODE + 2));
    }

    #[test]
    fn unknown_registers_and_programs_are_refused() {
        for code in [RDMSR, WRMSR] {
            assert_eq!(run_badly(code, |cpu| registers(cpu, [0x1234_5678, 0, 0])), (13, Some(0)));
            assert_eq!(run_badly(code, enter_ring3), (13, Some(0)));
        }
    }
}
