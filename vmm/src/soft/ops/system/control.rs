//! Control registers: mov to and from CR0, CR2, CR3, CR4 and CR8, clts, lmsw, smsw (Intel SDM volume 3A, section 2.5).
//!
//! The CPU stays in 64-bit mode: what would leave it raises general protection, as on any CPU.

use iced_x86::{Code, Instruction, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::{Exception, Step};
use super::{done, go_on};
use crate::cpu::control_bits::{
    CR0_CD, CR0_ET, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP, CR4_FSGSBASE, CR4_OSXSAVE, CR4_PAE, CR4_PGE,
    CR4_PSE, CR4_SMEP,
};

/// The bits of CR0 that exist.
const CR0_ALL: u64 = 0xe005_003f;
/// TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT: what every CPU with long mode has.
const CR4_BASIC: u64 = 0x7fc;
/// Bits of CR3 that may be set besides the address: cache attributes, and bits that are ignored.
const CR3_LOW: u64 = 0xfff;

/// The bits of CR4 that the CPU has, by what CPUID says.
fn cr4_bits(cpu: &Cpu) -> u64 {
    let cpuid = &cpu.system.cpuid;
    let bit = |has: bool, bit: u64| if has { bit } else { 0 };
    CR4_BASIC
        | bit(cpuid.has_structured(0), CR4_FSGSBASE)
        | bit(cpuid.has_basic(26), CR4_OSXSAVE)
        | bit(cpuid.has_structured(7), CR4_SMEP)
}

fn set_cr0(cpu: &mut Cpu, op: &Op, value: u64) -> Step {
    let no_cache_mode = value & (CR0_NW | CR0_CD) == CR0_NW;
    if value >> 32 != 0 || value & (CR0_PE | CR0_PG) != CR0_PE | CR0_PG || no_cache_mode {
        return cpu.protection();
    }
    let value = value & CR0_ALL | CR0_ET;
    let changes = cpu.mmu.paging.cr0 ^ value;
    (cpu.mmu.paging.cr0, cpu.sregs.cr0) = (value, value);
    if changes & CR0_WP != 0 {
        cpu.mmu.flush_all();
    }
    done(cpu, op)
}

fn set_cr3(cpu: &mut Cpu, op: &Op, value: u64) -> Step {
    let address = (1u64 << cpu.mmu.paging.address_bits.min(52)) - 1;
    if value & !(address | CR3_LOW) != 0 {
        return cpu.protection();
    }
    (cpu.mmu.paging.cr3, cpu.sregs.cr3) = (value, value);
    cpu.mmu.flush_non_global();
    done(cpu, op)
}

fn set_cr4(cpu: &mut Cpu, op: &Op, value: u64) -> Step {
    if value & !cr4_bits(cpu) != 0 || value & CR4_PAE == 0 {
        return cpu.protection();
    }
    let changes = cpu.mmu.paging.cr4 ^ value;
    (cpu.mmu.paging.cr4, cpu.sregs.cr4) = (value, value);
    if changes & (CR4_PSE | CR4_PGE | CR4_SMEP) != 0 {
        cpu.mmu.flush_all();
    }
    done(cpu, op)
}

fn set_cr8(cpu: &mut Cpu, op: &Op, value: u64) -> Step {
    let priority = u8::try_from(value).ok().filter(|priority| *priority < 16);
    let Some(priority) = priority else { return cpu.protection() };
    match &cpu.system.controllers {
        Some(controllers) => controllers.set_cr8(priority),
        None => cpu.sregs.cr8 = priority.into(),
    }
    done(cpu, op)
}

fn write_register(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.get::<u64>(op.src);
    match op.dst {
        0 => set_cr0(cpu, op, value),
        2 => {
            cpu.sregs.cr2 = value;
            go_on(cpu, op)
        }
        3 => set_cr3(cpu, op, value),
        4 => set_cr4(cpu, op, value),
        8 => set_cr8(cpu, op, value),
        _ => cpu.raise(Exception::INVALID_OPCODE),
    }
}

fn read_register(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    let value = match op.src {
        0 => cpu.mmu.paging.cr0,
        2 => cpu.sregs.cr2,
        3 => cpu.mmu.paging.cr3,
        4 => cpu.mmu.paging.cr4,
        8 => match &cpu.system.controllers {
            Some(controllers) => controllers.cr8().into(),
            None => cpu.sregs.cr8,
        },
        _ => return cpu.raise(Exception::INVALID_OPCODE),
    };
    cpu.set::<u64>(op.dst, value);
    Ok(())
}

fn clear_task_switched(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.mmu.paging.cr0 & !CR0_TS;
    (cpu.mmu.paging.cr0, cpu.sregs.cr0) = (value, value);
    Ok(())
}

/// LMSW sets the low four bits of CR0 and cannot clear PE.
fn load_status(cpu: &mut Cpu, op: &Op, value: u64) -> Step {
    let value = cpu.mmu.paging.cr0 & !0xe | value & 0xf;
    set_cr0(cpu, op, value)
}

fn load_status_reg(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.get::<u16>(op.dst);
    load_status(cpu, op, value)
}

fn load_status_mem(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    let value = cpu.read::<u16>(op.address(cpu))?;
    load_status(cpu, op, value)
}

fn store_status(cpu: &Cpu) -> u64 {
    cpu.mmu.paging.cr0
}

fn is_write(instruction: &Instruction) -> bool {
    instruction.code() == Code::Mov_cr_r64
}

/// Whether a MOV writes a control register.
pub(super) fn ends_block(instruction: &Instruction) -> bool {
    is_write(instruction)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let number = |operand| u8::try_from(instruction.op_register(operand).number()).ok();
    match instruction.code() {
        Code::Mov_cr_r64 => {
            op.dst = number(0)?;
            operands::src(instruction, 1, op)?;
            Some(write_register)
        }
        Code::Mov_r64_cr => {
            operands::dst(instruction, 0, op)?;
            op.src = number(1)?;
            Some(read_register)
        }
        Code::Clts => Some(clear_task_switched),
        Code::Lmsw_rm16 | Code::Lmsw_r32m16 | Code::Lmsw_r64m16 => {
            if instruction.op_kind(0) == OpKind::Memory {
                operands::memory(instruction, op)?;
                return Some(load_status_mem);
            }
            operands::dst(instruction, 0, op)?;
            Some(load_status_reg)
        }
        Code::Smsw_rm16 | Code::Smsw_r32m16 | Code::Smsw_r64m16 => {
            super::table::store_word!(instruction, op, store_status)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::{RAX, RBX};
    use super::super::super::super::mmu::tlb::Kind;
    use super::super::super::super::step::Stop;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_one, run_well};
    use super::super::super::super::testing::{DATA, TABLES, system_registers};
    use super::*;

    /// mov cr<number>, rax
    fn write(number: u8) -> Vec<u8> {
        match number {
            8 => vec![0x44, 0x0f, 0x22, 0xc0],
            _ => vec![0x0f, 0x22, 0xc0 | number << 3],
        }
    }

    /// mov rbx, cr<number>
    fn read(number: u8) -> Vec<u8> {
        match number {
            8 => vec![0x44, 0x0f, 0x20, 0xc3],
            _ => vec![0x0f, 0x20, 0xc3 | number << 3],
        }
    }

    const CR0: u64 = CR0_PG | CR0_PE | CR0_ET;

    #[test]
    fn what_is_written_is_read() {
        for (number, value) in
            [(0, CR0 | CR0_WP), (2, u64::MAX), (3, TABLES | 0x18), (4, CR4_PAE | CR4_PGE), (8, 15)]
        {
            let mut cpu = run_well(&write(number), |cpu| cpu.regs[usize::from(RAX)] = value);
            let found = match number {
                0 => cpu.mmu.paging.cr0,
                2 => cpu.sregs.cr2,
                3 => cpu.mmu.paging.cr3,
                4 => cpu.mmu.paging.cr4,
                _ => cpu.sregs.cr8,
            };
            assert_eq!(found, value, "cr{number}");
            let (_, sregs) = cpu.export();
            assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4), (cpu.sregs.cr0, cpu.sregs.cr3, cpu.sregs.cr4));
            cpu = run_well(&read(number), |new| (new.sregs, new.mmu.paging) = (cpu.sregs, cpu.mmu.paging));
            assert_eq!(cpu.regs[usize::from(RBX)], value, "cr{number}");
        }
    }

    #[test]
    fn impossible_values_raise_general_protection() {
        for (number, value) in [
            (0, CR0 & !CR0_PG),
            (0, CR0 & !CR0_PE),
            (0, CR0 | CR0_NW),
            (0, CR0 | 1 << 32),
            (3, TABLES | 1 << 48),
            (3, TABLES | 1 << 63),
            (4, 0),
            (4, CR4_PAE | 1 << 12),
            (4, CR4_PAE | 1 << 17),
            (4, CR4_PAE | 1 << 21),
            (4, CR4_PAE | CR4_SMEP),
            (4, CR4_PAE | 1 << 40),
            (8, 16),
        ] {
            let raised = run_badly(&write(number), |cpu| cpu.regs[usize::from(RAX)] = value);
            assert_eq!(raised, (13, Some(0)), "cr{number} = {value:#x}");
        }
    }

    #[test]
    fn programs_may_not_touch_them() {
        for number in [0, 2, 3, 4, 8] {
            assert_eq!(run_badly(&write(number), enter_ring3), (13, Some(0)), "cr{number}");
            assert_eq!(run_badly(&read(number), enter_ring3), (13, Some(0)), "cr{number}");
        }
        for code in [&[0x0f, 0x06][..], &[0x0f, 0x01, 0xf0]] {
            assert_eq!(run_badly(code, enter_ring3), (13, Some(0)), "{code:x?}");
        }
    }

    #[test]
    fn translations_are_forgotten_when_they_may_have_changed() {
        let sregs = system_registers();
        for (number, value, low_stays, high_stays) in [
            (0, sregs.cr0 & !CR0_WP, false, false),
            (0, sregs.cr0, true, true),
            (3, sregs.cr3, false, true),
            (4, sregs.cr4 | CR4_PGE, false, false),
            (4, sregs.cr4 | 1 << 9, true, true),
        ] {
            const HIGH: u64 = 0xffff_8000_0000_9000;
            let cpu = run_well(&write(number), |cpu| {
                cpu.regs[usize::from(RAX)] = value;
                cpu.mmu.tlb.insert(DATA, Kind::Read, false, 0, false, false);
                cpu.mmu.tlb.insert(HIGH, Kind::Read, false, 0, true, false);
                cpu.mmu.native_is_stale = false;
            });
            let stays = |linear| cpu.mmu.tlb.find(linear, Kind::Read, false).is_some();
            assert_eq!((stays(DATA), stays(HIGH)), (low_stays, high_stays), "cr{number} = {value:#x}");
            assert_eq!(cpu.mmu.native_is_stale, !low_stays);
        }
    }

    #[test]
    fn the_status_word_is_the_low_part_of_cr0() {
        // lmsw ax: sets MP and TS, and cannot clear PE.
        let cpu = run_well(&[0x0f, 0x01, 0xf0], |cpu| cpu.regs[usize::from(RAX)] = 0xfff0 | 0b1010);
        assert_eq!(cpu.mmu.paging.cr0 & 0xf, 0b1011);
        // smsw rbx; smsw bx; smsw word [rax]
        let cpu = run_well(&[0x48, 0x0f, 0x01, 0xe3], |_| {});
        assert_eq!(cpu.regs[usize::from(RBX)], system_registers().cr0);
        let cpu = run_well(&[0x66, 0x0f, 0x01, 0xe3], |cpu| cpu.regs[usize::from(RBX)] = u64::MAX);
        assert_eq!(cpu.regs[usize::from(RBX)], !0xffff | system_registers().cr0 & 0xffff);
        let mut cpu = run_well(&[0x0f, 0x01, 0x20], |cpu| cpu.regs[usize::from(RAX)] = DATA);
        assert_eq!(cpu.read::<u64>(DATA), Ok(system_registers().cr0 & 0xffff));
        // clts
        let (cpu, result) = run_one(&[0x0f, 0x06], |cpu| cpu.mmu.paging.cr0 |= CR0_TS);
        assert_eq!((result, cpu.mmu.paging.cr0 & CR0_TS), (Ok(()), 0));
    }

    #[test]
    fn the_interpreter_looks_at_what_has_changed() {
        let (_, result) = run_one(&write(3), |cpu| cpu.regs[usize::from(RAX)] = TABLES);
        assert_eq!(result, Err(Stop::Done));
    }
}
