//! What vectors tell the rest of the CPU: sign bits to a general register, whether bits are set to the flags.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands as general_operands;
use super::super::super::cpu::Cpu;
use super::super::super::flags::{CF, ZF};
use super::super::super::step::Step;
use super::memory::{both_operands, last_operand};
use super::operands::{encoding, is_wide, last_or_memory, register};

/// The highest bits of the eight bytes of `word`.
#[inline(always)]
fn byte_signs(word: u64) -> u64 {
    // Each bit comes to its place in the highest byte by one of the eight shifts in the factor; no two bits meet.
    (word >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
fn signs_of_bytes(half: u128) -> u64 {
    byte_signs(half as u64) | byte_signs((half >> 64) as u64) << 8
}

fn signs<const BITS: u32>(half: u128) -> u64 {
    let sign = |index| u64::from(half >> (BITS * index + BITS - 1) & 1 != 0) << index;
    (0..128 / BITS).fold(0, |mask, index| mask | sign(index))
}

/// `lanes` to each half.
#[inline(always)]
fn collect(cpu: &mut Cpu, op: &Op, lanes: u32, signs: impl Fn(u128) -> u64) -> Step {
    let [low, high] = last_operand(cpu, op)?;
    let high = if is_wide(op) { signs(high) << lanes } else { 0 };
    cpu.set::<u64>(op.dst, signs(low) | high);
    Ok(())
}

fn pmovmskb(cpu: &mut Cpu, op: &Op) -> Step {
    collect(cpu, op, 16, signs_of_bytes)
}

fn movmskps(cpu: &mut Cpu, op: &Op) -> Step {
    collect(cpu, op, 4, signs::<32>)
}

fn movmskpd(cpu: &mut Cpu, op: &Op) -> Step {
    collect(cpu, op, 2, signs::<64>)
}

/// ZF: no bit is set in both; CF: none that is set in the last operand is clear in the first.
fn ptest(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = both_operands(cpu, op)?;
    let common = a[0] & b[0] | a[1] & b[1];
    let others = !a[0] & b[0] | !a[1] & b[1];
    cpu.flags.set_arithmetic(if common == 0 { ZF } else { 0 } | if others == 0 { CF } else { 0 });
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Pmovmskb | Mnemonic::Vpmovmskb => pmovmskb,
        Mnemonic::Movmskps | Mnemonic::Vmovmskps => movmskps,
        Mnemonic::Movmskpd | Mnemonic::Vmovmskpd => movmskpd,
        Mnemonic::Ptest | Mnemonic::Vptest => {
            encoding(instruction, op);
            op.src = register(instruction.op_register(0))?;
            last_or_memory(instruction, 1, op)?;
            return Some(ptest);
        }
        _ => return None,
    };
    encoding(instruction, op);
    general_operands::dst(instruction, 0, op)?;
    if last_or_memory(instruction, 1, op)? {
        return None;
    }
    Some(handler)
}
