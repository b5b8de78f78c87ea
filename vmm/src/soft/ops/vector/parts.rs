//! Moving the low or high part of a register: 4 or 8 bytes.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands as general_operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::operands::{binary, encoding, last, last_or_memory, register};
use super::registers::{get_low, get_number, ready, set_low};

const LOW: u128 = u64::MAX as u128;

/// What a general register has goes to the low part, and the rest is cleared.
fn from_general<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = cpu.get::<T>(op.src);
    set_low(cpu, op, op.dst, value.into())
}

fn to_general<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get_number(cpu, op.src)?;
    cpu.set::<T>(op.dst, value);
    Ok(())
}

/// Loads the low part and clears the rest.
fn load<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = cpu.read::<T>(op.address(cpu))?;
    set_low(cpu, op, op.dst, value.into())
}

fn store<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get_number(cpu, op.src)?;
    cpu.write::<T>(op.address(cpu), value)
}

fn store_high(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = u64::try_from(get_low(cpu, op.src)? >> 64).unwrap_or_default();
    cpu.write::<u64>(op.address(cpu), value)
}

/// The low 8 bytes, with the rest cleared.
fn low_half(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get_low(cpu, last(op))?;
    set_low(cpu, op, op.dst, value & LOW)
}

/// The first operand with its low part replaced by that of the last one.
fn merge<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let (a, b) = (get_low(cpu, op.src)?, get_low(cpu, last(op))?);
    let mask = u128::from(T::MASK);
    set_low(cpu, op, op.dst, a & !mask | b & mask)
}

/// The first operand with one half replaced by what `pick` takes from the last one.
#[inline(always)]
fn replace<const HIGH: bool>(cpu: &mut Cpu, op: &Op, value: u128) -> Step {
    let old = get_low(cpu, op.src)?;
    set_low(cpu, op, op.dst, if HIGH { old & LOW | value << 64 } else { old & !LOW | value & LOW })
}

/// Loads 8 bytes into one half and takes the other from the first operand.
fn load_half<const HIGH: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = cpu.read::<u64>(op.address(cpu))?;
    replace::<HIGH>(cpu, op, value.into())
}

/// The last operand's high half into the low one.
fn high_to_low(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get_low(cpu, last(op))?;
    replace::<false>(cpu, op, value >> 64)
}

/// The last operand's low half into the high one.
fn low_to_high(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get_low(cpu, last(op))?;
    replace::<true>(cpu, op, value)
}

/// Between the low part of a vector register and a general register or memory.
fn general(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let code = instruction.code();
    let to_vector = matches!(
        code,
        Code::Movd_xmm_rm32 | Code::Movq_xmm_rm64 | Code::VEX_Vmovd_xmm_rm32 | Code::VEX_Vmovq_xmm_rm64
    );
    let wide = matches!(
        code,
        Code::Movq_xmm_rm64 | Code::Movq_rm64_xmm | Code::VEX_Vmovq_xmm_rm64 | Code::VEX_Vmovq_rm64_xmm
    );
    encoding(instruction, op);
    let (vector, other) = if to_vector { (0, 1) } else { (1, 0) };
    let vector = register(instruction.op_register(vector))?;
    if instruction.op_kind(other) == OpKind::Memory {
        general_operands::memory(instruction, op)?;
        (op.dst, op.src) = (vector, vector);
        return Some(match (to_vector, wide) {
            (true, true) => load::<u64>,
            (true, false) => load::<u32>,
            (false, true) => store::<u64>,
            (false, false) => store::<u32>,
        });
    }
    let general = general_operands::register(instruction.op_register(other))?;
    (op.dst, op.src) = if to_vector { (vector, general) } else { (general, vector) };
    Some(match (to_vector, wide) {
        (true, true) => from_general::<u64>,
        (true, false) => from_general::<u32>,
        (false, true) => to_general::<u64>,
        (false, false) => to_general::<u32>,
    })
}

/// The handlers of a move, by what its operands are.
struct Ways {
    /// A register and another one: `between` replaces all of it, `merge` the part that is moved.
    between: Option<Handler>,
    merge: Handler,
    load: Handler,
    /// The load takes the other half from a register.
    load_merges: bool,
    store: Handler,
}

const SINGLE: Ways =
    Ways { between: None, merge: merge::<u32>, load: load::<u32>, load_merges: false, store: store::<u32> };
const DOUBLE: Ways =
    Ways { between: None, merge: merge::<u64>, load: load::<u64>, load_merges: false, store: store::<u64> };
const QUADWORD: Ways = Ways { between: Some(low_half), ..DOUBLE };
const LOW_HALF: Ways = Ways {
    between: None,
    merge: high_to_low,
    load: load_half::<false>,
    load_merges: true,
    store: store::<u64>,
};
const HIGH_HALF: Ways =
    Ways { between: None, merge: low_to_high, load: load_half::<true>, load_merges: true, store: store_high };

fn with(ways: &Ways, instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if instruction.op_kind(0) == OpKind::Memory {
        encoding(instruction, op);
        general_operands::memory(instruction, op)?;
        op.src = register(instruction.op_register(1))?;
        return Some(ways.store);
    }
    let is_load = instruction.op_kind(instruction.op_count() - 1) == OpKind::Memory;
    let replaces = if is_load { !ways.load_merges } else { ways.between.is_some() };
    if replaces {
        encoding(instruction, op);
        op.dst = register(instruction.op_register(0))?;
        last_or_memory(instruction, 1, op)?;
        return if is_load { Some(ways.load) } else { ways.between };
    }
    binary(instruction, op)?;
    Some(if is_load { ways.load } else { ways.merge })
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let ways = match instruction.mnemonic() {
        Mnemonic::Movlps | Mnemonic::Movlpd | Mnemonic::Movhlps => &LOW_HALF,
        Mnemonic::Vmovlps | Mnemonic::Vmovlpd | Mnemonic::Vmovhlps => &LOW_HALF,
        Mnemonic::Movhps | Mnemonic::Movhpd | Mnemonic::Movlhps => &HIGH_HALF,
        Mnemonic::Vmovhps | Mnemonic::Vmovhpd | Mnemonic::Vmovlhps => &HIGH_HALF,
        Mnemonic::Movss | Mnemonic::Vmovss => &SINGLE,
        // The string instruction of the same name has no vector register, and does not pass as one of these.
        Mnemonic::Movsd | Mnemonic::Vmovsd => &DOUBLE,
        Mnemonic::Movd | Mnemonic::Vmovd => return general(instruction, op),
        Mnemonic::Movq | Mnemonic::Vmovq => match instruction.code() {
            Code::Movq_xmm_rm64
            | Code::Movq_rm64_xmm
            | Code::VEX_Vmovq_xmm_rm64
            | Code::VEX_Vmovq_rm64_xmm => {
                return general(instruction, op);
            }
            _ => &QUADWORD,
        },
        _ => return None,
    };
    with(ways, instruction, op)
}
