//! Operands of decoded instructions: which registers, which address, which size.

use iced_x86::{Instruction, OpKind, Register};

use super::super::cpu::{FS, GS, HIGH_BYTE, NO_BASE, ZERO};
use super::op::Op;

/// What a two-operand integer instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Register from register.
    RegReg,
    /// Register from memory.
    RegMem,
    /// Register from immediate.
    RegImm,
    /// Memory from register.
    MemReg,
    /// Memory from immediate.
    MemImm,
}

/// The number of a general register in [`Op`]; `None` for other registers.
pub(crate) fn register(register: Register) -> Option<u8> {
    if !register.is_gpr() {
        return None;
    }
    let number = u8::try_from(register.full_register().number()).ok()?;
    let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    Some(if high { number | HIGH_BYTE } else { number })
}

/// The segment of the memory operand, as a number of `Cpu::bases`.
pub(crate) fn segment(instruction: &Instruction) -> u8 {
    match instruction.memory_segment() {
        Register::FS => FS,
        Register::GS => GS,
        _ => NO_BASE,
    }
}

/// Puts the memory operand of `instruction` into `op`. `None` if it is not one of 64-bit mode.
pub(crate) fn memory(instruction: &Instruction, op: &mut Op) -> Option<()> {
    op.segment = segment(instruction);
    op.disp = instruction.memory_displacement64();
    op.base = match instruction.memory_base() {
        Register::None | Register::RIP => ZERO,
        base if base.is_gpr64() => register(base)?,
        // Address-size prefix: 32-bit address arithmetic.
        _ => return None,
    };
    op.index = match instruction.memory_index() {
        Register::None => ZERO,
        index if index.is_gpr64() => register(index)?,
        _ => return None,
    };
    op.scale = u8::try_from(instruction.memory_index_scale().trailing_zeros()).ok()?;
    Some(())
}

/// Whether operand `operand` is an immediate.
pub(crate) fn is_immediate(instruction: &Instruction, operand: u32) -> bool {
    instruction.try_immediate(operand).is_ok()
}

/// Puts operand `operand` into `op.dst` if it is a general register; `None` otherwise.
pub(crate) fn dst(instruction: &Instruction, operand: u32, op: &mut Op) -> Option<()> {
    op.dst = register(instruction.op_register(operand))?;
    Some(())
}

/// Puts operand `operand` into `op.src` if it is a general register; `None` otherwise.
pub(crate) fn src(instruction: &Instruction, operand: u32, op: &mut Op) -> Option<()> {
    op.src = register(instruction.op_register(operand))?;
    Some(())
}

/// Puts both operands of a two-operand instruction into `op` and says what they are.
pub(crate) fn two(instruction: &Instruction, op: &mut Op) -> Option<Form> {
    let is = |operand, kind| instruction.op_kind(operand) == kind;
    if is(1, OpKind::Memory) {
        dst(instruction, 0, op)?;
        memory(instruction, op)?;
        return Some(Form::RegMem);
    }
    let to_memory = is(0, OpKind::Memory);
    if to_memory {
        memory(instruction, op)?;
    } else {
        dst(instruction, 0, op)?;
    }
    if is_immediate(instruction, 1) {
        op.imm = instruction.immediate(1);
        return Some(if to_memory { Form::MemImm } else { Form::RegImm });
    }
    src(instruction, 1, op)?;
    Some(if to_memory { Form::MemReg } else { Form::RegReg })
}

/// Size of operand `operand` in bytes.
pub(crate) fn size(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        _ => instruction.memory_size().size(),
    }
}

/// Picks the instance of a handler for an operand of `size` bytes: `sized!(size, T => handler::<T>)`.
macro_rules! sized {
    ($size:expr, $word:ident => $handler:expr) => {
        match $size {
            1 => {
                type $word = u8;
                $handler
            }
            2 => {
                type $word = u16;
                $handler
            }
            4 => {
                type $word = u32;
                $handler
            }
            8 => {
                type $word = u64;
                $handler
            }
            _ => return None,
        }
    };
}
pub(crate) use sized;
