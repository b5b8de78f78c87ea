//! Debug registers. They keep what they are given; breakpoints are not implemented (Intel SDM volume 3B, section 17.2).

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::{Exception, Step};
use crate::cpu::control_bits::CR4_DE;

/// Bits of DR6 and DR7 that read as one, and those that can be written.
const DR6_FIXED: u64 = 0xffff_0ff0;
const DR6_WRITABLE: u64 = 0xe00f;
const DR7_FIXED: u64 = 0x400;
const DR7_WRITABLE: u64 = 0xffff_2bff;

/// The register that number `number` stands for: 4 and 5 are 6 and 7 unless CR4.DE forbids them.
fn number(cpu: &mut Cpu, number: u8) -> Step<u8> {
    let is_alias = matches!(number, 4 | 5);
    if number > 7 || is_alias && cpu.mmu.paging.cr4 & CR4_DE != 0 {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    cpu.require_kernel()?;
    Ok(if is_alias { number + 2 } else { number })
}

fn write(cpu: &mut Cpu, op: &Op) -> Step {
    let number = number(cpu, op.dst)?;
    let value = cpu.get::<u64>(op.src);
    let debug = &mut cpu.system.debug;
    if let Some(address) = debug.addresses.get_mut(usize::from(number)) {
        *address = value;
        return Ok(());
    }
    if value >> 32 != 0 {
        return cpu.protection();
    }
    match number {
        6 => debug.status = value & DR6_WRITABLE | DR6_FIXED,
        _ => debug.control = value & DR7_WRITABLE | DR7_FIXED,
    }
    Ok(())
}

fn read(cpu: &mut Cpu, op: &Op) -> Step {
    let number = number(cpu, op.src)?;
    let debug = &cpu.system.debug;
    let value = match number {
        6 => debug.status,
        7 => debug.control,
        _ => debug.addresses.get(usize::from(number)).copied().unwrap_or_default(),
    };
    cpu.set::<u64>(op.dst, value);
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let number = |operand| u8::try_from(instruction.op_register(operand).number()).ok();
    match instruction.code() {
        Code::Mov_dr_r64 => {
            op.dst = number(0)?;
            operands::src(instruction, 1, op)?;
            Some(write)
        }
        Code::Mov_r64_dr => {
            operands::dst(instruction, 0, op)?;
            op.src = number(1)?;
            Some(read)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::{RAX, RBX};
    use super::super::super::super::testing::run;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly};
    use super::*;

    /// mov dr<number>, rax; mov rbx, dr<number>
    fn write_and_read(number: u8) -> [u8; 6] {
        [0x0f, 0x23, 0xc0 | number << 3, 0x0f, 0x21, 0xc3 | number << 3]
    }

    #[test]
    fn they_keep_what_they_are_given() {
        for (number, value, expected) in [
            (0, u64::MAX, u64::MAX),
            (3, 5, 5),
            (6, 0, DR6_FIXED),
            (4, 0x4000, DR6_FIXED | 0x4000),
            (7, 0x303, DR7_FIXED | 0x303),
            (5, 0, DR7_FIXED),
        ] {
            let cpu = run(&write_and_read(number), |cpu| cpu.regs[usize::from(RAX)] = value);
            assert_eq!(cpu.regs[usize::from(RBX)], expected, "dr{number}");
        }
    }

    #[test]
    fn reserved_bits_numbers_and_programs_are_refused() {
        for number in [6, 7] {
            let raised = run_badly(&write_and_read(number), |cpu| cpu.regs[usize::from(RAX)] = 1 << 32);
            assert_eq!(raised, (13, Some(0)), "dr{number}");
        }
        assert_eq!(run_badly(&write_and_read(4), |cpu| cpu.mmu.paging.cr4 |= CR4_DE), (6, None));
        assert_eq!(run_badly(&write_and_read(0), enter_ring3), (13, Some(0)));
    }
}
