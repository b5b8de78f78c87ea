//! Segment registers: mov, push and pop, lss, lfs, lgs.

use iced_x86::{Code, Instruction, OpKind, Register as IcedRegister};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::{self, sized};
use super::super::super::cpu::{Cpu, RSP};
use super::super::super::segments::Register;
use super::super::super::step::{Exception, Step};
use super::super::super::word::Word;
use super::{done, go_on};

const STACK: usize = RSP as usize;
/// Number of CS in instructions.
const CS: u8 = 1;

/// The selector in segment register `number`.
fn selector(cpu: &mut Cpu, number: u8) -> u64 {
    match Register::from_number(number) {
        Some(register) => cpu.segment_mut(register).selector.into(),
        None => cpu.sregs.cs.selector.into(),
    }
}

fn load(cpu: &mut Cpu, number: u8, value: u64) -> Step {
    match Register::from_number(number) {
        Some(register) => cpu.load_segment(register, u16::truncate(value)),
        None => cpu.raise(Exception::INVALID_OPCODE),
    }
}

/// The end of a MOV to a segment register. Behind one to SS no interrupt is taken yet: it comes with one to RSP.
fn loaded(cpu: &mut Cpu, op: &Op) -> Step {
    if Register::from_number(op.dst) == Some(Register::Ss) {
        cpu.shadow = true;
        return done(cpu, op);
    }
    go_on(cpu, op)
}

fn mov_from_reg(cpu: &mut Cpu, op: &Op) -> Step {
    load(cpu, op.dst, cpu.get::<u16>(op.src))?;
    loaded(cpu, op)
}

fn mov_from_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<u16>(op.address(cpu))?;
    load(cpu, op.dst, value)?;
    loaded(cpu, op)
}

fn mov_to_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = selector(cpu, op.src);
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn mov_to_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let value = selector(cpu, op.src);
    cpu.write::<u16>(op.address(cpu), value)
}

fn push<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK].wrapping_sub(size_of::<T>() as u64);
    let value = selector(cpu, op.src);
    cpu.write::<T>(stack, value)?;
    cpu.regs[STACK] = stack;
    Ok(())
}

fn pop<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK];
    let value = cpu.read::<T>(stack)?;
    load(cpu, op.src, value)?;
    cpu.regs[STACK] = stack.wrapping_add(size_of::<T>() as u64);
    Ok(())
}

/// Loads segment register `op.imm` and general register `op.dst` from a far pointer.
fn load_pointer<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let address = op.address(cpu);
    let offset = cpu.read::<T>(address)?;
    let value = cpu.read::<u16>(address.wrapping_add(size_of::<T>() as u64))?;
    load(cpu, op.imm.to_le_bytes()[0], value)?;
    cpu.set::<T>(op.dst, offset);
    Ok(())
}

fn number(register: IcedRegister) -> Option<u8> {
    if !register.is_segment_register() {
        return None;
    }
    u8::try_from(register.number()).ok()
}

/// Whether a MOV loads a segment register.
pub(super) fn ends_block(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16)
}

fn mov_to_segment(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    op.dst = number(instruction.op_register(0)).filter(|number| *number != CS)?;
    if instruction.op_kind(1) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(mov_from_mem);
    }
    operands::src(instruction, 1, op)?;
    Some(mov_from_reg)
}

fn mov_from_segment(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    op.src = number(instruction.op_register(1))?;
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(mov_to_mem);
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(operands::size(instruction, 0), T => mov_to_reg::<T>))
}

fn pointer(instruction: &Instruction, op: &mut Op, segment: IcedRegister) -> Option<Handler> {
    operands::dst(instruction, 0, op)?;
    operands::memory(instruction, op)?;
    op.imm = number(segment)?.into();
    Some(sized!(operands::size(instruction, 0), T => load_pointer::<T>))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let stack: Handler = match instruction.code() {
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => {
            return mov_from_segment(instruction, op);
        }
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => {
            return mov_to_segment(instruction, op);
        }
        Code::Lss_r16_m1616 | Code::Lss_r32_m1632 | Code::Lss_r64_m1664 => {
            return pointer(instruction, op, IcedRegister::SS);
        }
        Code::Lfs_r16_m1616 | Code::Lfs_r32_m1632 | Code::Lfs_r64_m1664 => {
            return pointer(instruction, op, IcedRegister::FS);
        }
        Code::Lgs_r16_m1616 | Code::Lgs_r32_m1632 | Code::Lgs_r64_m1664 => {
            return pointer(instruction, op, IcedRegister::GS);
        }
        Code::Pushq_FS | Code::Pushq_GS => push::<u64>,
        Code::Pushw_FS | Code::Pushw_GS => push::<u16>,
        Code::Popq_FS | Code::Popq_GS => pop::<u64>,
        Code::Popw_FS | Code::Popw_GS => pop::<u16>,
        _ => return None,
    };
    op.src = number(instruction.op_register(0))?;
    Some(stack)
}

#[cfg(test)]
mod tests;
