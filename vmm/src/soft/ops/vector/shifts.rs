//! Shifts of lanes, by an immediate or by what a vector holds, and of whole halves by bytes.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::memory::read_16;
use super::operands::{binary, encoding, immediate, is_memory, is_vex, last, register};
use super::registers::{get, get_number, ready, set};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Left,
    Right,
    Arithmetic,
}

const LEFT: u8 = Way::Left as u8;
const RIGHT: u8 = Way::Right as u8;
const ARITHMETIC: u8 = Way::Arithmetic as u8;

/// A lane of size `T`, shifted. Counts beyond the size leave nothing, or the sign.
#[inline(always)]
fn shifted<T: Word, const WAY: u8>(lane: u64, count: u64) -> u64 {
    let beyond = count >= T::BITS.into();
    match WAY {
        ARITHMETIC => {
            let count = count.min(u64::from(T::BITS) - 1);
            (T::sign_extend(lane).cast_signed() >> count).cast_unsigned() & T::MASK
        }
        _ if beyond => 0,
        LEFT => lane << count & T::MASK,
        _ => lane >> count,
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked to the lane")]
fn each<T: Word, const WAY: u8>(value: u128, count: u64) -> u128 {
    let lanes = 128 / T::BITS;
    let mask = u128::from(T::MASK);
    (0..lanes).fold(0, |result, index| {
        let at = index * T::BITS;
        let lane = (value >> at & mask) as u64;
        result | u128::from(shifted::<T, WAY>(lane, count)) << at
    })
}

#[inline(always)]
fn shift<T: Word, const WAY: u8>(cpu: &mut Cpu, op: &Op, count: u64) -> Step {
    let value = get(cpu, op, op.src)?;
    set(cpu, op, op.dst, value.map(|half| each::<T, WAY>(half, count)))
}

fn by_immediate<T: Word, const WAY: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    shift::<T, WAY>(cpu, op, immediate(op).into())
}

/// The operand has 128 bits, whatever is shifted.
#[expect(clippy::cast_possible_truncation, reason = "the low part counts")]
fn by_vector<T: Word, const WAY: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    if !is_memory(op) {
        let count = get_number(cpu, last(op))?;
        return shift::<T, WAY>(cpu, op, count);
    }
    let address = op.address(cpu);
    if !is_vex(op) && address & 15 != 0 {
        return cpu.protection();
    }
    let count = read_16(cpu, address)? as u64;
    shift::<T, WAY>(cpu, op, count)
}

/// Halves by bytes.
fn bytes<const WAY: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let bits = u32::from(immediate(op)) * 8;
    let value = get(cpu, op, op.src)?;
    let shifted = |half: u128| {
        let shifted = if WAY == LEFT { half.checked_shl(bits) } else { half.checked_shr(bits) };
        shifted.unwrap_or(0)
    };
    set(cpu, op, op.dst, value.map(shifted))
}

/// The handlers of a shift: by an immediate, by a vector.
const fn ways<T: Word, const WAY: u8>() -> [Handler; 2] {
    [by_immediate::<T, WAY>, by_vector::<T, WAY>]
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let [immediate, vector]: [Handler; 2] = match instruction.mnemonic() {
        Mnemonic::Psllw | Mnemonic::Vpsllw => ways::<u16, LEFT>(),
        Mnemonic::Pslld | Mnemonic::Vpslld => ways::<u32, LEFT>(),
        Mnemonic::Psllq | Mnemonic::Vpsllq => ways::<u64, LEFT>(),
        Mnemonic::Psrlw | Mnemonic::Vpsrlw => ways::<u16, RIGHT>(),
        Mnemonic::Psrld | Mnemonic::Vpsrld => ways::<u32, RIGHT>(),
        Mnemonic::Psrlq | Mnemonic::Vpsrlq => ways::<u64, RIGHT>(),
        Mnemonic::Psraw | Mnemonic::Vpsraw => ways::<u16, ARITHMETIC>(),
        Mnemonic::Psrad | Mnemonic::Vpsrad => ways::<u32, ARITHMETIC>(),
        Mnemonic::Pslldq | Mnemonic::Vpslldq => [bytes::<LEFT>; 2],
        Mnemonic::Psrldq | Mnemonic::Vpsrldq => [bytes::<RIGHT>; 2],
        _ => return None,
    };
    if instruction.op_kind(instruction.op_count() - 1) != OpKind::Immediate8 {
        binary(instruction, op)?;
        return Some(vector);
    }
    op.dst = register(instruction.op_register(0))?;
    let is_vex = instruction.code().encoding() == EncodingKind::VEX;
    op.src = if is_vex { register(instruction.op_register(1))? } else { op.dst };
    op.imm = instruction.immediate(instruction.op_count() - 1) & 0xff;
    encoding(instruction, op);
    Some(immediate)
}
