//! What instructions do, one file for each group of them.
//!
//! Each group has a `translate` that takes a decoded instruction, puts its operands into an [`Op`] and names the handler;
//! `None` means that the instruction, or this form of it, is not one of the group. Handlers follow the Intel SDM,
//! volume 2; where that leaves a flag undefined they do what is cheapest.

mod alu;
mod atomic;
mod bit_test;
mod bits;
mod bmi;
mod branch;
mod condition;
mod data;
mod divide;
mod double_shift;
mod extended;
mod flag_ops;
mod hints;
mod multiply;
mod shift;
mod small_address;
mod stack;
mod string;
mod system;
#[cfg(test)]
mod testing;
mod vector;

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::code::op::{Handler, Op};

/// The groups. Most instructions belong to the first ones.
const GROUPS: &[fn(&Instruction, &mut Op) -> Option<Handler>] = &[
    data::translate,
    alu::translate,
    branch::translate,
    stack::translate,
    shift::translate,
    atomic::translate,
    string::translate,
    bit_test::translate,
    hints::translate,
    multiply::translate,
    divide::translate,
    bits::translate,
    bmi::translate,
    double_shift::translate,
    flag_ops::translate,
    small_address::translate,
    system::translate,
    vector::translate,
    extended::translate,
];

/// Translates one instruction. What no group knows becomes an operation that stops with [`super::step::Stop::Unknown`].
pub(crate) fn translate(instruction: &Instruction) -> Op {
    let blank = Op::at(instruction.ip(), instruction.len());
    if has_small_addresses(instruction) {
        return blank;
    }
    let in_group = |group: &fn(&Instruction, &mut Op) -> Option<Handler>| {
        let mut op = blank;
        op.run = group(instruction, &mut op)?;
        Some(op)
    };
    GROUPS.iter().find_map(in_group).unwrap_or(blank)
}

/// Whether an instruction uses 32-bit addresses for its string operands, which nobody does in 64-bit mode.
fn has_small_addresses(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::MemorySegESI
                | OpKind::MemoryESEDI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegSI
                | OpKind::MemoryESDI
                | OpKind::MemorySegDI
        )
    })
}

/// Whether an instruction orders all accesses to memory, also a write and a later read (Intel SDM volume 3A, section
/// 8.2.5): it is locked, or a fence.
pub(crate) fn is_barrier(instruction: &Instruction) -> bool {
    let exchanges_memory = instruction.mnemonic() == Mnemonic::Xchg
        && (0..2).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Mfence || exchanges_memory
}

/// Whether a block must end with this instruction, which is no branch, because it changes how what follows is to be
/// understood.
pub(crate) fn ends_block(instruction: &Instruction) -> bool {
    system::ends_block(instruction)
}
