//! Computing on vectors: bitwise, on lanes of 1 to 8 bytes, shuffles and shifts.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::{get, read_aligned, register, set, source};

/// An operation on two vectors.
type Compute = fn(u128, u128) -> u128;

/// Applies `compute` to each pair of lanes of `$type`.
macro_rules! lanes {
    ($type:ty, $compute:expr) => {
        |a: u128, b: u128| {
            const BYTES: usize = size_of::<$type>();
            let compute: fn($type, $type) -> $type = $compute;
            let mut result = [0; 16];
            let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
            let (a, b) = (a.as_chunks::<BYTES>().0, b.as_chunks::<BYTES>().0);
            for ((lane, a), b) in result.as_chunks_mut::<BYTES>().0.iter_mut().zip(a).zip(b) {
                *lane = compute(<$type>::from_le_bytes(*a), <$type>::from_le_bytes(*b)).to_le_bytes();
            }
            u128::from_le_bytes(result)
        }
    };
}

/// All ones where a comparison holds.
macro_rules! mask {
    ($type:ty, $compare:expr) => {
        lanes!($type, |a, b| {
            let compare: fn($type, $type) -> bool = $compare;
            if compare(a, b) { <$type>::MAX | <$type>::MIN } else { 0 }
        })
    };
}

/// Takes lanes of `BYTES` bytes alternately from the low (or high) halves of `a` and `b`.
fn interleave<const BYTES: usize, const HIGH: bool>(a: u128, b: u128) -> u128 {
    let half = if HIGH { 8 } else { 0 };
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let mut result = [0; 16];
    let (a, b) = (&a[half..half + 8], &b[half..half + 8]);
    let pairs = a.chunks_exact(BYTES).zip(b.chunks_exact(BYTES));
    for (to, (a, b)) in result.chunks_exact_mut(2 * BYTES).zip(pairs) {
        to[..BYTES].copy_from_slice(a);
        to[BYTES..].copy_from_slice(b);
    }
    u128::from_le_bytes(result)
}

const fn computation(mnemonic: Mnemonic) -> Option<Compute> {
    Some(match mnemonic {
        Mnemonic::Pxor | Mnemonic::Xorps | Mnemonic::Xorpd => |a, b| a ^ b,
        Mnemonic::Por | Mnemonic::Orps | Mnemonic::Orpd => |a, b| a | b,
        Mnemonic::Pand | Mnemonic::Andps | Mnemonic::Andpd => |a, b| a & b,
        Mnemonic::Pandn | Mnemonic::Andnps | Mnemonic::Andnpd => |a, b| !a & b,
        Mnemonic::Pcmpeqb => mask!(i8, |a, b| a == b),
        Mnemonic::Pcmpeqw => mask!(i16, |a, b| a == b),
        Mnemonic::Pcmpeqd => mask!(i32, |a, b| a == b),
        Mnemonic::Pcmpgtb => mask!(i8, |a, b| a > b),
        Mnemonic::Pcmpgtw => mask!(i16, |a, b| a > b),
        Mnemonic::Pcmpgtd => mask!(i32, |a, b| a > b),
        Mnemonic::Pminub => lanes!(u8, |a, b| a.min(b)),
        Mnemonic::Pmaxub => lanes!(u8, |a, b| a.max(b)),
        Mnemonic::Paddb => lanes!(u8, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddw => lanes!(u16, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddd => lanes!(u32, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddq => lanes!(u64, |a, b| a.wrapping_add(b)),
        Mnemonic::Psubb => lanes!(u8, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubw => lanes!(u16, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubd => lanes!(u32, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubq => lanes!(u64, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubusb => lanes!(u8, |a, b| a.saturating_sub(b)),
        Mnemonic::Punpcklbw => interleave::<1, false>,
        Mnemonic::Punpcklwd => interleave::<2, false>,
        Mnemonic::Punpckldq | Mnemonic::Unpcklps => interleave::<4, false>,
        Mnemonic::Punpcklqdq | Mnemonic::Unpcklpd => interleave::<8, false>,
        Mnemonic::Punpckhbw => interleave::<1, true>,
        Mnemonic::Punpckhwd => interleave::<2, true>,
        Mnemonic::Punpckhdq | Mnemonic::Unpckhps => interleave::<4, true>,
        Mnemonic::Punpckhqdq | Mnemonic::Unpckhpd => interleave::<8, true>,
        _ => return None,
    })
}

/// Both operands of a computation, the second one aligned if it is in memory.
fn operands<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step<(u128, u128)> {
    let b = if MEMORY { read_aligned(cpu, op.address(cpu))? } else { get(cpu, op.src)? };
    Ok((get(cpu, op.dst)?, b))
}

/// The handler for a mnemonic is an instance over this number, since a function pointer cannot be a parameter.
macro_rules! handlers {
    ($instruction:expr, $memory:expr, $($mnemonic:ident)*) => {
        match $instruction.mnemonic() {
            $(Mnemonic::$mnemonic => {
                fn handler<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
                    let (a, b) = operands::<MEMORY>(cpu, op)?;
                    match const { computation(Mnemonic::$mnemonic) } {
                        Some(compute) => set(cpu, op.dst, compute(a, b)),
                        None => Ok(()),
                    }
                }
                if $memory { handler::<true> as Handler } else { handler::<false> }
            })*
            _ => return None,
        }
    };
}

/// Picks four lanes of 32 bits by two bits of `order` each.
fn shuffle(value: u128, order: u64) -> u128 {
    let lane = |index: u32| value >> (32 * (order >> (2 * index) & 3)) & 0xffff_ffff;
    lane(0) | lane(1) << 32 | lane(2) << 64 | lane(3) << 96
}

/// Picks four lanes of 16 bits in each half that is chosen, and leaves the other half.
fn shuffle_words(value: u128, order: u64, high: bool) -> u128 {
    let base = if high { 64 } else { 0 };
    let mut result = value & !(u128::from(u64::MAX) << base);
    for index in 0..4 {
        let lane = value >> (base + 16 * (order >> (2 * index) & 3)) & 0xffff;
        result |= lane << (base + 16 * index);
    }
    result
}

fn pshufd<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let (_, b) = operands::<MEMORY>(cpu, op)?;
    set(cpu, op.dst, shuffle(b, op.imm))
}

fn pshuf_words<const MEMORY: bool, const HIGH: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let (_, b) = operands::<MEMORY>(cpu, op)?;
    set(cpu, op.dst, shuffle_words(b, op.imm, HIGH))
}

/// The whole register by bytes.
fn shift_bytes<const LEFT: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.dst)?;
    let bits = u32::try_from(op.imm * 8).unwrap_or(u32::MAX);
    let shifted = if LEFT { value.checked_shl(bits) } else { value.checked_shr(bits) };
    set(cpu, op.dst, shifted.unwrap_or(0))
}

fn pmovmskb(cpu: &mut Cpu, op: &Op) -> Step {
    let bytes = get(cpu, op.src)?.to_le_bytes();
    let mask = bytes.iter().rev().fold(0, |mask, byte| mask << 1 | u64::from(byte >> 7));
    cpu.set::<u32>(op.dst, mask);
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    use super::super::super::code::operands;
    let shuffled = |instruction: &Instruction, op: &mut Op| {
        op.dst = register(instruction.op_register(0))?;
        op.imm = instruction.immediate(2);
        source(instruction, op)
    };
    match instruction.mnemonic() {
        Mnemonic::Pmovmskb => {
            operands::dst(instruction, 0, op)?;
            op.src = register(instruction.op_register(1))?;
            return Some(pmovmskb);
        }
        Mnemonic::Pshufd => {
            return Some(if shuffled(instruction, op)? { pshufd::<true> } else { pshufd::<false> });
        }
        Mnemonic::Pshuflw => {
            let memory = shuffled(instruction, op)?;
            return Some(if memory { pshuf_words::<true, false> } else { pshuf_words::<false, false> });
        }
        Mnemonic::Pshufhw => {
            let memory = shuffled(instruction, op)?;
            return Some(if memory { pshuf_words::<true, true> } else { pshuf_words::<false, true> });
        }
        Mnemonic::Pslldq | Mnemonic::Psrldq if instruction.op_kind(1) == OpKind::Immediate8 => {
            op.dst = register(instruction.op_register(0))?;
            op.imm = instruction.immediate(1);
            let left = instruction.mnemonic() == Mnemonic::Pslldq;
            return Some(if left { shift_bytes::<true> } else { shift_bytes::<false> });
        }
        _ => {}
    }
    op.dst = register(instruction.op_register(0))?;
    let memory = source(instruction, op)?;
    Some(handlers!(instruction, memory,
        Pxor Xorps Xorpd Por Orps Orpd Pand Andps Andpd Pandn Andnps Andnpd
        Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd Pminub Pmaxub
        Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Psubusb
        Punpcklbw Punpcklwd Punpckldq Unpcklps Punpcklqdq Unpcklpd
        Punpckhbw Punpckhwd Punpckhdq Unpckhps Punpckhqdq Unpckhpd))
}
