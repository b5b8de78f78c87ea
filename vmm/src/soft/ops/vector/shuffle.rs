//! Picking lanes by an immediate byte: shuffles of one vector, and of two; palignr; blends.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::last_operand;
use super::operands::{binary, encoding, immediate, is_wide, last_or_memory, register, unary};
use super::registers::{Vector, get, set};

/// Picks four lanes of 32 bits by two bits of `order` each.
#[inline(always)]
fn pick(value: u128, order: u8) -> u128 {
    let lane = |index: u32| value >> (32 * u32::from(order >> (2 * index) & 3)) & 0xffff_ffff;
    lane(0) | lane(1) << 32 | lane(2) << 64 | lane(3) << 96
}

/// Picks four lanes of 16 bits in the low half, or the high one, and leaves the other half.
#[inline(always)]
fn pick_words<const HIGH: bool>(value: u128, order: u8) -> u128 {
    let base = if HIGH { 64 } else { 0 };
    let mut result = value & !(u128::from(u64::MAX) << base);
    for index in 0..4 {
        let lane = value >> (base + 16 * u32::from(order >> (2 * index) & 3)) & 0xffff;
        result |= lane << (base + 16 * index);
    }
    result
}

fn unary_by<const MEMORY: bool>(cpu: &mut Cpu, op: &Op, compute: impl Fn(u128, u8) -> u128) -> Step {
    let [low, high] = last_operand::<MEMORY>(cpu, op)?;
    let order = immediate(op);
    let high = if is_wide(op) { compute(high, order) } else { 0 };
    set(cpu, op, op.dst, [compute(low, order), high])
}

fn pshufd<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by::<MEMORY>(cpu, op, pick)
}

fn pshuflw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by::<MEMORY>(cpu, op, pick_words::<false>)
}

fn pshufhw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by::<MEMORY>(cpu, op, pick_words::<true>)
}

/// `compute` gets the immediate as it applies to the low or to the high half.
#[inline(always)]
fn binary_by<const MEMORY: bool>(
    cpu: &mut Cpu,
    op: &Op,
    compute: impl Fn(u128, u128, u8) -> u128,
    of_high: fn(u8) -> u8,
) -> Step {
    let b = last_operand::<MEMORY>(cpu, op)?;
    let a = get(cpu, op, op.src)?;
    let order = immediate(op);
    let high = if is_wide(op) { compute(a[1], b[1], of_high(order)) } else { 0 };
    set(cpu, op, op.dst, [compute(a[0], b[0], order), high])
}

/// Both vectors side by side, `b` below, shifted to the right by bytes.
fn palignr<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let compute = |a: u128, b: u128, bytes: u8| match u32::from(bytes) * 8 {
        0 => b,
        bits @ 1..128 => b >> bits | a << (128 - bits),
        bits => a.checked_shr(bits - 128).unwrap_or(0),
    };
    binary_by::<MEMORY>(cpu, op, compute, |bytes| bytes)
}

/// The low half picked from `a`, the high one from `b`.
fn shufps<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    const LOW: u128 = u64::MAX as u128;
    binary_by::<MEMORY>(cpu, op, |a, b, order| pick(a, order) & LOW | pick(b, order) & !LOW, |order| order)
}

fn shufpd<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let half = |value: u128, high: u8| value >> (64 * u32::from(high & 1)) & u128::from(u64::MAX);
    let compute = |a, b, order: u8| half(a, order) | half(b, order >> 1) << 64;
    binary_by::<MEMORY>(cpu, op, compute, |order| order >> 2)
}

/// Lanes of `BITS` bits of `b` where the bit of `choice` is set, of `a` where it is not.
#[inline(always)]
fn choose<const BITS: u32>(a: u128, b: u128, choice: u8) -> u128 {
    let lane = u128::MAX >> (128 - BITS);
    let chosen = |index: &u32| choice >> index & 1 != 0;
    let mask = (0..128 / BITS).filter(chosen).fold(0, |mask, index| mask | lane << (index * BITS));
    a & !mask | b & mask
}

fn pblendw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by::<MEMORY>(cpu, op, choose::<16>, |choice| choice)
}

fn blendps<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by::<MEMORY>(cpu, op, choose::<32>, |choice| choice >> 4)
}

fn blendpd<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by::<MEMORY>(cpu, op, choose::<64>, |choice| choice >> 2)
}

/// Bytes of `b` where the highest bit of those of `choice` is set, of `a` where it is not.
#[inline(always)]
fn choose_bytes(a: Vector, b: Vector, choice: Vector) -> Vector {
    let one = |index: usize| {
        let signs = choice[index] >> 7 & (u128::MAX / 0xff);
        let mask = signs * 0xff;
        a[index] & !mask | b[index] & mask
    };
    [one(0), one(1)]
}

/// SSE's takes XMM0 for the choice.
fn pblendvb<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = last_operand::<MEMORY>(cpu, op)?;
    let (a, choice) = (get(cpu, op, op.src)?, get(cpu, op, immediate(op) & 15)?);
    set(cpu, op, op.dst, choose_bytes(a, b, choice))
}

/// Picks four lanes of 64 bits from all of 256.
fn vpermq<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = last_operand::<MEMORY>(cpu, op)?;
    let lane = |index: u32| {
        let from = immediate(op) >> (2 * index) & 3;
        value[usize::from(from >> 1)] >> (64 * u32::from(from & 1)) & u128::from(u64::MAX)
    };
    set(cpu, op, op.dst, [lane(0) | lane(1) << 64, lane(2) | lane(3) << 64])
}

fn four_operands(instruction: &Instruction, op: &mut Op) -> Option<bool> {
    op.dst = register(instruction.op_register(0))?;
    op.src = register(instruction.op_register(1))?;
    encoding(instruction, op);
    op.imm |= u64::from(register(instruction.op_register(3))?);
    last_or_memory(instruction, 2, op)
}

macro_rules! pick_form {
    ($memory:expr, $handler:ident) => {
        if $memory { $handler::<true> as Handler } else { $handler::<false> }
    };
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Pshufd | Mnemonic::Vpshufd => pick_form!(unary(instruction, op)?, pshufd),
        Mnemonic::Pshuflw | Mnemonic::Vpshuflw => pick_form!(unary(instruction, op)?, pshuflw),
        Mnemonic::Pshufhw | Mnemonic::Vpshufhw => pick_form!(unary(instruction, op)?, pshufhw),
        Mnemonic::Vpermq | Mnemonic::Vpermpd => pick_form!(unary(instruction, op)?, vpermq),
        Mnemonic::Palignr | Mnemonic::Vpalignr => pick_form!(binary(instruction, op)?, palignr),
        Mnemonic::Shufps | Mnemonic::Vshufps => pick_form!(binary(instruction, op)?, shufps),
        Mnemonic::Shufpd | Mnemonic::Vshufpd => pick_form!(binary(instruction, op)?, shufpd),
        Mnemonic::Pblendw | Mnemonic::Vpblendw => pick_form!(binary(instruction, op)?, pblendw),
        Mnemonic::Blendps | Mnemonic::Vblendps | Mnemonic::Vpblendd => {
            pick_form!(binary(instruction, op)?, blendps)
        }
        Mnemonic::Blendpd | Mnemonic::Vblendpd => pick_form!(binary(instruction, op)?, blendpd),
        Mnemonic::Pblendvb => pick_form!(binary(instruction, op)?, pblendvb),
        Mnemonic::Vpblendvb => pick_form!(four_operands(instruction, op)?, pblendvb),
        _ => return None,
    })
}
