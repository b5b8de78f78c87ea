//! Single elements between a vector register and a general register or memory: pinsr, pextr.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands as general_operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::operands::{encoding, immediate, last, register, trailing_immediate};
use super::registers::{get_low, ready, set_low};

/// Where the element is that the immediate names, in bits.
#[inline(always)]
fn place<T: Word>(op: &Op) -> u32 {
    u32::from(immediate(op)) * T::BITS % 128
}

/// The vector is in `op.src`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the element is in the low part")]
fn element<T: Word>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
    ready(cpu, op)?;
    Ok((get_low(cpu, op.src)? >> place::<T>(op)) as u64 & T::MASK)
}

fn extract<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = element::<T>(cpu, op)?;
    cpu.set::<u64>(op.dst, value);
    Ok(())
}

fn extract_to_memory<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = element::<T>(cpu, op)?;
    cpu.write::<T>(op.address(cpu), value)
}

fn insert<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = if MEMORY { cpu.read::<T>(op.address(cpu))? } else { cpu.get::<T>(last(op)) };
    let old = get_low(cpu, op.src)?;
    let at = place::<T>(op);
    set_low(cpu, op, op.dst, old & !(u128::from(T::MASK) << at) | u128::from(value) << at)
}

fn extracts(instruction: &Instruction, op: &mut Op, ways: [Handler; 2]) -> Option<Handler> {
    op.src = register(instruction.op_register(1))?;
    trailing_immediate(instruction, op);
    encoding(instruction, op);
    let [to_register, to_memory] = ways;
    if instruction.op_kind(0) == OpKind::Memory {
        general_operands::memory(instruction, op)?;
        return Some(to_memory);
    }
    general_operands::dst(instruction, 0, op)?;
    Some(to_register)
}

fn inserts(instruction: &Instruction, op: &mut Op, ways: [Handler; 2]) -> Option<Handler> {
    op.dst = register(instruction.op_register(0))?;
    let is_vex = instruction.code().encoding() == EncodingKind::VEX;
    op.src = if is_vex { register(instruction.op_register(1))? } else { op.dst };
    trailing_immediate(instruction, op);
    encoding(instruction, op);
    let [from_register, from_memory] = ways;
    let operand = instruction.op_count() - 2;
    if instruction.op_kind(operand) == OpKind::Memory {
        general_operands::memory(instruction, op)?;
        return Some(from_memory);
    }
    // A byte of a 32-bit register is its lowest one.
    let number = general_operands::register(instruction.op_register(operand))?;
    op.imm |= u64::from(number) << 8;
    Some(from_register)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Pextrb | Mnemonic::Vpextrb => {
            extracts(instruction, op, [extract::<u8>, extract_to_memory::<u8>])
        }
        Mnemonic::Pextrw | Mnemonic::Vpextrw => {
            extracts(instruction, op, [extract::<u16>, extract_to_memory::<u16>])
        }
        Mnemonic::Pextrd | Mnemonic::Vpextrd => {
            extracts(instruction, op, [extract::<u32>, extract_to_memory::<u32>])
        }
        Mnemonic::Pextrq | Mnemonic::Vpextrq => {
            extracts(instruction, op, [extract::<u64>, extract_to_memory::<u64>])
        }
        Mnemonic::Pinsrb | Mnemonic::Vpinsrb => {
            inserts(instruction, op, [insert::<u8, false>, insert::<u8, true>])
        }
        Mnemonic::Pinsrw | Mnemonic::Vpinsrw => {
            inserts(instruction, op, [insert::<u16, false>, insert::<u16, true>])
        }
        Mnemonic::Pinsrd | Mnemonic::Vpinsrd => {
            inserts(instruction, op, [insert::<u32, false>, insert::<u32, true>])
        }
        Mnemonic::Pinsrq | Mnemonic::Vpinsrq => {
            inserts(instruction, op, [insert::<u64, false>, insert::<u64, true>])
        }
        _ => None,
    }
}
