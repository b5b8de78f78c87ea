//! Bases of FS and GS: swapgs, and rdfsbase, wrfsbase, rdgsbase, wrgsbase where CR4 allows them.

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::{Cpu, FS, GS};
use super::super::super::mmu::walk::is_canonical;
use super::super::super::step::{Exception, Step};
use super::super::super::word::Word;
use crate::cpu::control_bits::CR4_FSGSBASE;

fn swap(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.require_kernel()?;
    std::mem::swap(&mut cpu.bases[usize::from(GS)], &mut cpu.system.msrs.kernel_gs_base);
    Ok(())
}

fn require_bases(cpu: &mut Cpu) -> Step {
    if cpu.mmu.paging.cr4 & CR4_FSGSBASE == 0 {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    Ok(())
}

fn read<T: Word, const SEGMENT: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    require_bases(cpu)?;
    let base = cpu.bases[usize::from(SEGMENT)];
    cpu.set::<T>(op.dst, base);
    Ok(())
}

fn write<T: Word, const SEGMENT: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    require_bases(cpu)?;
    let base = cpu.get::<T>(op.dst);
    if !is_canonical(base) {
        return cpu.protection();
    }
    cpu.bases[usize::from(SEGMENT)] = base;
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.code() {
        Code::Swapgs => return Some(swap),
        Code::Rdfsbase_r32 => read::<u32, FS>,
        Code::Rdfsbase_r64 => read::<u64, FS>,
        Code::Rdgsbase_r32 => read::<u32, GS>,
        Code::Rdgsbase_r64 => read::<u64, GS>,
        Code::Wrfsbase_r32 => write::<u32, FS>,
        Code::Wrfsbase_r64 => write::<u64, FS>,
        Code::Wrgsbase_r32 => write::<u32, GS>,
        Code::Wrgsbase_r64 => write::<u64, GS>,
        _ => return None,
    };
    operands::dst(instruction, 0, op)?;
    Some(handler)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::RAX;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_well};
    use super::*;

    const SWAPGS: &[u8] = &[0x0f, 0x01, 0xf8];
    /// rdfsbase rax, rdgsbase eax, wrfsbase eax, wrgsbase rax
    const BASES: [&[u8]; 4] = [
        &[0xf3, 0x48, 0x0f, 0xae, 0xc0],
        &[0xf3, 0x0f, 0xae, 0xc8],
        &[0xf3, 0x0f, 0xae, 0xd0],
        &[0xf3, 0x48, 0x0f, 0xae, 0xd8],
    ];
    const HIGH: u64 = 0xffff_8000_0000_1000;

    fn prepare(cpu: &mut Cpu) {
        cpu.mmu.paging.cr4 |= CR4_FSGSBASE;
        cpu.bases = [0, HIGH, HIGH + 1, 0];
        cpu.regs[usize::from(RAX)] = HIGH + 2;
    }

    #[test]
    fn swapgs_exchanges_the_kernels_base_with_the_programs() {
        let cpu = run_well(SWAPGS, |cpu| {
            cpu.bases[usize::from(GS)] = 5;
            cpu.system.msrs.kernel_gs_base = HIGH;
        });
        assert_eq!((cpu.bases[usize::from(GS)], cpu.system.msrs.kernel_gs_base), (HIGH, 5));
        assert_eq!(run_badly(SWAPGS, enter_ring3), (13, Some(0)));
    }

    #[test]
    fn bases_are_read_and_written_in_both_sizes() {
        let [read_fs, read_gs, write_fs, write_gs] = BASES.map(|code| run_well(code, prepare));
        assert_eq!(read_fs.regs[usize::from(RAX)], HIGH);
        assert_eq!(read_gs.regs[usize::from(RAX)], (HIGH + 1) & 0xffff_ffff);
        assert_eq!(write_fs.bases[usize::from(FS)], (HIGH + 2) & 0xffff_ffff);
        assert_eq!(write_gs.bases[usize::from(GS)], HIGH + 2);
    }

    #[test]
    fn they_are_invalid_unless_allowed() {
        for code in BASES {
            assert_eq!(run_badly(code, |_| {}), (6, None), "{code:x?}");
        }
        let to_nowhere = run_badly(BASES[3], |cpu| {
            prepare(cpu);
            cpu.regs[usize::from(RAX)] = 1 << 50;
        });
        assert_eq!(to_nowhere, (13, Some(0)));
    }
}
