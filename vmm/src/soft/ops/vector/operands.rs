//! Where an [`Op`] keeps the operands of a vector instruction: in `dst` and `src` the first two registers, and in `imm`,
//! from its lowest bits up, an immediate byte, the number of the last register, which encoding it is, and whether the last
//! operand is no register but memory.

use iced_x86::{EncodingKind, Instruction, OpKind, Register};

use super::super::super::code::op::Op;
use super::super::super::code::operands;

const LAST: u32 = 8;
/// The instruction is one of AVX.
const VEX: u64 = 1 << 16;
/// It works on 256 bits.
const WIDE: u64 = 1 << 17;
/// Its last operand is in memory.
const MEMORY: u64 = 1 << 18;

/// The immediate byte.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it is the low byte")]
pub(super) fn immediate(op: &Op) -> u8 {
    op.imm as u8
}

/// The number of the last operand's register.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it is the byte there")]
pub(super) fn last(op: &Op) -> u8 {
    (op.imm >> LAST) as u8
}

/// Whether it is an instruction of AVX.
#[inline(always)]
pub(super) fn is_vex(op: &Op) -> bool {
    op.imm & VEX != 0
}

/// Whether it works on 256 bits.
#[inline(always)]
pub(super) fn is_wide(op: &Op) -> bool {
    op.imm & WIDE != 0
}

/// Whether its last operand is in memory.
#[inline(always)]
pub(super) fn is_memory(op: &Op) -> bool {
    op.imm & MEMORY != 0
}

/// How many halves of 128 bits it works on.
#[inline(always)]
pub(super) fn halves(op: &Op) -> usize {
    if is_wide(op) { 2 } else { 1 }
}

/// The number of a vector register; `None` for other registers.
pub(super) fn register(register: Register) -> Option<u8> {
    if !register.is_xmm() && !register.is_ymm() {
        return None;
    }
    u8::try_from(register.number()).ok().filter(|number| *number < 16)
}

/// Puts the encoding into `op`.
pub(super) fn encoding(instruction: &Instruction, op: &mut Op) {
    if instruction.code().encoding() == EncodingKind::VEX {
        op.imm |= VEX;
    }
    if (0..instruction.op_count()).any(|operand| instruction.op_register(operand).is_ymm()) {
        op.imm |= WIDE;
    }
}

/// Puts operand `operand`, a vector register or memory, into `op` as its last one and says whether it is memory.
pub(super) fn last_or_memory(instruction: &Instruction, operand: u32, op: &mut Op) -> Option<bool> {
    if instruction.op_kind(operand) == OpKind::Memory {
        operands::memory(instruction, op)?;
        op.imm |= MEMORY;
        return Some(true);
    }
    op.imm |= u64::from(register(instruction.op_register(operand))?) << LAST;
    Some(false)
}

/// Puts everything into `op` that computes a register from one vector: `op xmm, xmm/m, [imm8]`. Says whether the operand is
/// memory.
pub(super) fn unary(instruction: &Instruction, op: &mut Op) -> Option<bool> {
    op.dst = register(instruction.op_register(0))?;
    trailing_immediate(instruction, op);
    encoding(instruction, op);
    last_or_memory(instruction, 1, op)
}

/// Puts everything into `op` that computes a register from two vectors: `op xmm, xmm/m, [imm8]`, where the first is an
/// operand as well, or `op xmm, xmm, xmm/m, [imm8]`. Says whether the last operand is memory.
pub(super) fn binary(instruction: &Instruction, op: &mut Op) -> Option<bool> {
    op.dst = register(instruction.op_register(0))?;
    let is_vex = instruction.code().encoding() == EncodingKind::VEX;
    op.src = if is_vex { register(instruction.op_register(1))? } else { op.dst };
    trailing_immediate(instruction, op);
    encoding(instruction, op);
    last_or_memory(instruction, if is_vex { 2 } else { 1 }, op)
}

/// Puts the last operand into `op`, if it is an immediate byte.
pub(super) fn trailing_immediate(instruction: &Instruction, op: &mut Op) {
    let last = instruction.op_count().saturating_sub(1);
    if instruction.op_kind(last) == OpKind::Immediate8 {
        op.imm |= instruction.immediate(last) & 0xff;
    }
}
