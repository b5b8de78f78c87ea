//! Picking lanes by an immediate byte: shuffles of one vector, and of two; palignr; blends.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::{both_operands, last_operand};
use super::operands::{binary, encoding, halves, immediate, last_or_memory, register, unary};
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

#[inline(always)]
fn unary_by(cpu: &mut Cpu, op: &Op, compute: impl Fn(u128, u8) -> u128) -> Step {
    let mut value = last_operand(cpu, op)?;
    for half in value.iter_mut().take(halves(op)) {
        *half = compute(*half, immediate(op));
    }
    set(cpu, op, op.dst, value)
}

fn pshufd(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by(cpu, op, pick)
}

fn pshuflw(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by(cpu, op, pick_words::<false>)
}

fn pshufhw(cpu: &mut Cpu, op: &Op) -> Step {
    unary_by(cpu, op, pick_words::<true>)
}

/// `compute` gets the immediate as it applies to the low or to the high half.
#[inline(always)]
fn binary_by(
    cpu: &mut Cpu,
    op: &Op,
    compute: impl Fn(u128, u128, u8) -> u128,
    of_high: fn(u8) -> u8,
) -> Step {
    let (mut a, b) = both_operands(cpu, op)?;
    let mut order = immediate(op);
    for (a, b) in a.iter_mut().zip(b).take(halves(op)) {
        *a = compute(*a, b, order);
        order = of_high(order);
    }
    set(cpu, op, op.dst, a)
}

/// Both vectors side by side, `b` below, shifted to the right by bytes.
fn palignr(cpu: &mut Cpu, op: &Op) -> Step {
    let compute = |a: u128, b: u128, bytes: u8| match u32::from(bytes) * 8 {
        0 => b,
        bits @ 1..128 => b >> bits | a << (128 - bits),
        bits => a.checked_shr(bits - 128).unwrap_or(0),
    };
    binary_by(cpu, op, compute, |bytes| bytes)
}

/// The low half picked from `a`, the high one from `b`.
fn shufps(cpu: &mut Cpu, op: &Op) -> Step {
    const LOW: u128 = u64::MAX as u128;
    binary_by(cpu, op, |a, b, order| pick(a, order) & LOW | pick(b, order) & !LOW, |order| order)
}

fn shufpd(cpu: &mut Cpu, op: &Op) -> Step {
    let half = |value: u128, high: u8| value >> (64 * u32::from(high & 1)) & u128::from(u64::MAX);
    let compute = |a, b, order: u8| half(a, order) | half(b, order >> 1) << 64;
    binary_by(cpu, op, compute, |order| order >> 2)
}

/// Lanes of `BITS` bits of `b` where the bit of `choice` is set, of `a` where it is not.
#[inline(always)]
fn choose<const BITS: u32>(a: u128, b: u128, choice: u8) -> u128 {
    let lane = u128::MAX >> (128 - BITS);
    let chosen = |index: &u32| choice >> index & 1 != 0;
    let mask = (0..128 / BITS).filter(chosen).fold(0, |mask, index| mask | lane << (index * BITS));
    a & !mask | b & mask
}

fn pblendw(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by(cpu, op, choose::<16>, |choice| choice)
}

fn blendps(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by(cpu, op, choose::<32>, |choice| choice >> 4)
}

fn blendpd(cpu: &mut Cpu, op: &Op) -> Step {
    binary_by(cpu, op, choose::<64>, |choice| choice >> 2)
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
fn pblendvb(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = both_operands(cpu, op)?;
    let choice = get(cpu, op, immediate(op) & 15)?;
    set(cpu, op, op.dst, choose_bytes(a, b, choice))
}

/// Picks four lanes of 64 bits from all of 256.
fn vpermq(cpu: &mut Cpu, op: &Op) -> Step {
    let value = last_operand(cpu, op)?;
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

/// Puts the operands of an instruction into an [`Op`].
type Operands = fn(&Instruction, &mut Op) -> Option<bool>;

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let (operands, handler): (Operands, Handler) = match instruction.mnemonic() {
        Mnemonic::Pshufd | Mnemonic::Vpshufd => (unary, pshufd),
        Mnemonic::Pshuflw | Mnemonic::Vpshuflw => (unary, pshuflw),
        Mnemonic::Pshufhw | Mnemonic::Vpshufhw => (unary, pshufhw),
        Mnemonic::Vpermq | Mnemonic::Vpermpd => (unary, vpermq),
        Mnemonic::Palignr | Mnemonic::Vpalignr => (binary, palignr),
        Mnemonic::Shufps | Mnemonic::Vshufps => (binary, shufps),
        Mnemonic::Shufpd | Mnemonic::Vshufpd => (binary, shufpd),
        Mnemonic::Pblendw | Mnemonic::Vpblendw => (binary, pblendw),
        Mnemonic::Blendps | Mnemonic::Vblendps | Mnemonic::Vpblendd => (binary, blendps),
        Mnemonic::Blendpd | Mnemonic::Vblendpd => (binary, blendpd),
        Mnemonic::Pblendvb => (binary, pblendvb),
        Mnemonic::Vpblendvb => (four_operands, pblendvb),
        _ => return None,
    };
    operands(instruction, op)?;
    Some(handler)
}
