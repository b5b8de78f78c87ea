//! Moving data: mov, movzx, movsx, movsxd, lea, cmovcc, setcc, xlat, xchg between registers.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, RAX, RBX};
use super::super::step::Step;
use super::super::word::Word;
use super::condition::{conditional, number};

fn mov_reg_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<T>(op.src);
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn mov_reg_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.set::<T>(op.dst, op.imm);
    Ok(())
}

fn mov_reg_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn mov_mem_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<T>(op.src);
    cpu.write::<T>(op.address(cpu), value)
}

fn mov_mem_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.write::<T>(op.address(cpu), op.imm)
}

fn mov(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    let size = operands::size(instruction, 0);
    Some(sized!(size, T => match form {
        Form::RegReg => mov_reg_reg::<T>,
        Form::RegMem => mov_reg_mem::<T>,
        Form::RegImm => mov_reg_imm::<T>,
        Form::MemReg => mov_mem_reg::<T>,
        Form::MemImm => mov_mem_imm::<T>,
    }))
}

/// From size `F` to size `T`, by zeros or by sign.
fn extend_reg<F: Word, T: Word, const SIGN: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<F>(op.src);
    cpu.set::<T>(op.dst, if SIGN { F::sign_extend(value) } else { value });
    Ok(())
}

fn extend_mem<F: Word, T: Word, const SIGN: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<F>(op.address(cpu))?;
    cpu.set::<T>(op.dst, if SIGN { F::sign_extend(value) } else { value });
    Ok(())
}

fn extend<const SIGN: bool>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    let (to, from) = (operands::size(instruction, 0), operands::size(instruction, 1));
    let register = form == Form::RegReg;
    Some(sized!(to, T => sized!(from, F => {
        if register { extend_reg::<F, T, SIGN> } else { extend_mem::<F, T, SIGN> }
    })))
}

fn lea_op<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let address = op.effective_address(cpu);
    cpu.set::<T>(op.dst, address);
    Ok(())
}

fn lea(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    operands::dst(instruction, 0, op)?;
    operands::memory(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => lea_op::<T>))
}

fn cmov_reg<T: Word, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let source = if cpu.flags.holds::<CONDITION>() { op.src } else { op.dst };
    // Also when the condition does not hold, a 32-bit move clears the upper half.
    let value = cpu.get::<T>(source);
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn cmov_mem<T: Word, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    let value = if cpu.flags.holds::<CONDITION>() { value } else { cpu.get::<T>(op.dst) };
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn cmov(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let condition = number(instruction)?;
    let register = operands::two(instruction, op)? == Form::RegReg;
    Some(match operands::size(instruction, 0) {
        2 if register => conditional!(condition, C => cmov_reg::<u16, C>),
        4 if register => conditional!(condition, C => cmov_reg::<u32, C>),
        8 if register => conditional!(condition, C => cmov_reg::<u64, C>),
        2 => conditional!(condition, C => cmov_mem::<u16, C>),
        4 => conditional!(condition, C => cmov_mem::<u32, C>),
        8 => conditional!(condition, C => cmov_mem::<u64, C>),
        _ => return None,
    })
}

fn set_reg<const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.flags.holds::<CONDITION>().into();
    cpu.set::<u8>(op.dst, value);
    Ok(())
}

fn set_mem<const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.flags.holds::<CONDITION>().into();
    cpu.write::<u8>(op.address(cpu), value)
}

fn setcc(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let condition = number(instruction)?;
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(conditional!(condition, C => set_mem::<C>));
    }
    operands::dst(instruction, 0, op)?;
    Some(conditional!(condition, C => set_reg::<C>))
}

fn xchg_reg_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.get::<T>(op.dst), cpu.get::<T>(op.src));
    cpu.set::<T>(op.dst, b);
    cpu.set::<T>(op.src, a);
    Ok(())
}

fn xchg(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match operands::two(instruction, op)? {
        Form::RegReg => Some(sized!(operands::size(instruction, 0), T => xchg_reg_reg::<T>)),
        _ => None,
    }
}

/// AL from a table of bytes.
fn xlat(cpu: &mut Cpu, op: &Op) -> Step {
    let byte = op.address(cpu).wrapping_add(cpu.get::<u8>(RAX));
    let value = cpu.read::<u8>(byte)?;
    cpu.set::<u8>(RAX, value);
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        // A store that is not to be cached is a store.
        Mnemonic::Mov | Mnemonic::Movnti => mov(instruction, op),
        Mnemonic::Movzx => extend::<false>(instruction, op),
        Mnemonic::Movsx | Mnemonic::Movsxd => extend::<true>(instruction, op),
        Mnemonic::Lea => lea(instruction, op),
        Mnemonic::Xchg => xchg(instruction, op),
        Mnemonic::Xlatb if instruction.memory_base() == Register::RBX => {
            op.base = RBX;
            op.segment = operands::segment(instruction);
            Some(xlat)
        }
        _ => match (instruction.op_count(), instruction.op_kind(0)) {
            (2, _) => cmov(instruction, op),
            (1, OpKind::Register | OpKind::Memory) => setcc(instruction, op),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{FS, RDI};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::{load, store};
    use super::*;

    #[test]
    fn stores_past_the_cache_are_stores() {
        // movnti [rdi], rbx
        let cpu = run(&[0x48, 0x0f, 0xc3, 0x1f], |cpu| {
            (cpu.regs[usize::from(RDI)], cpu.regs[usize::from(RBX)]) = (DATA, !7);
        });
        assert_eq!(load::<u64>(&cpu, DATA), !7);
    }

    #[test]
    fn bytes_are_looked_up_in_tables() {
        // fs xlatb
        let cpu = run(&[0x64, 0xd7], |cpu| {
            cpu.bases[usize::from(FS)] = 0x100;
            (cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RBX)]) = (0x1234, DATA);
            store(cpu, DATA + 0x134, 0x56u8);
        });
        assert_eq!(cpu.regs[usize::from(RAX)], 0x1256);
    }
}
