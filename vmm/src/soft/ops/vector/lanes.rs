//! Computing on pairs of lanes of 1 to 8 bytes: bitwise, comparing, adding, packing, interleaving.
//!
//! Those of 256 bits do the same to each half as those of 128 bits.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::both_operands;
use super::operands::{binary, halves};
use super::registers::set;

/// An operation on two vectors of 128 bits.
pub(super) type Compute = fn(u128, u128) -> u128;

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

/// Picks bytes of `a` by the low four bits of those of `b`, zero where their highest bit is set.
fn pick_bytes(a: u128, b: u128) -> u128 {
    let a = a.to_le_bytes();
    let pick = |index: u8| if index & 0x80 != 0 { 0 } else { a[usize::from(index & 15)] };
    u128::from_le_bytes(b.to_le_bytes().map(pick))
}

/// The lanes of 16 bits of `a`, then those of `b`, each as a byte that `narrow` makes of it.
fn pack_words(a: u128, b: u128, narrow: fn(i16) -> u8) -> u128 {
    let mut result = [0; 16];
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let lanes = a.as_chunks::<2>().0.iter().chain(b.as_chunks::<2>().0);
    for (to, lane) in result.iter_mut().zip(lanes) {
        *to = narrow(i16::from_le_bytes(*lane));
    }
    u128::from_le_bytes(result)
}

/// The same from 32 to 16 bits.
fn pack_doublewords(a: u128, b: u128, narrow: fn(i32) -> u16) -> u128 {
    let mut result = [0; 16];
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let lanes = a.as_chunks::<4>().0.iter().chain(b.as_chunks::<4>().0);
    for (to, lane) in result.as_chunks_mut::<2>().0.iter_mut().zip(lanes) {
        *to = narrow(i32::from_le_bytes(*lane)).to_le_bytes();
    }
    u128::from_le_bytes(result)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value was brought into range, or wraps as documented"
)]
const fn computation(mnemonic: Mnemonic) -> Option<Compute> {
    Some(match mnemonic {
        Mnemonic::Pxor | Mnemonic::Xorps | Mnemonic::Xorpd => |a, b| a ^ b,
        Mnemonic::Por | Mnemonic::Orps | Mnemonic::Orpd => |a, b| a | b,
        Mnemonic::Pand | Mnemonic::Andps | Mnemonic::Andpd => |a, b| a & b,
        Mnemonic::Pandn | Mnemonic::Andnps | Mnemonic::Andnpd => |a, b| !a & b,
        Mnemonic::Pcmpeqb => mask!(i8, |a, b| a == b),
        Mnemonic::Pcmpeqw => mask!(i16, |a, b| a == b),
        Mnemonic::Pcmpeqd => mask!(i32, |a, b| a == b),
        Mnemonic::Pcmpeqq => mask!(i64, |a, b| a == b),
        Mnemonic::Pcmpgtb => mask!(i8, |a, b| a > b),
        Mnemonic::Pcmpgtw => mask!(i16, |a, b| a > b),
        Mnemonic::Pcmpgtd => mask!(i32, |a, b| a > b),
        Mnemonic::Pcmpgtq => mask!(i64, |a, b| a > b),
        Mnemonic::Pminub => lanes!(u8, |a, b| a.min(b)),
        Mnemonic::Pminuw => lanes!(u16, |a, b| a.min(b)),
        Mnemonic::Pminud => lanes!(u32, |a, b| a.min(b)),
        Mnemonic::Pminsb => lanes!(i8, |a, b| a.min(b)),
        Mnemonic::Pminsw => lanes!(i16, |a, b| a.min(b)),
        Mnemonic::Pminsd => lanes!(i32, |a, b| a.min(b)),
        Mnemonic::Pmaxub => lanes!(u8, |a, b| a.max(b)),
        Mnemonic::Pmaxuw => lanes!(u16, |a, b| a.max(b)),
        Mnemonic::Pmaxud => lanes!(u32, |a, b| a.max(b)),
        Mnemonic::Pmaxsb => lanes!(i8, |a, b| a.max(b)),
        Mnemonic::Pmaxsw => lanes!(i16, |a, b| a.max(b)),
        Mnemonic::Pmaxsd => lanes!(i32, |a, b| a.max(b)),
        Mnemonic::Paddb => lanes!(u8, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddw => lanes!(u16, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddd => lanes!(u32, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddq => lanes!(u64, |a, b| a.wrapping_add(b)),
        Mnemonic::Paddusb => lanes!(u8, |a, b| a.saturating_add(b)),
        Mnemonic::Paddusw => lanes!(u16, |a, b| a.saturating_add(b)),
        Mnemonic::Psubb => lanes!(u8, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubw => lanes!(u16, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubd => lanes!(u32, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubq => lanes!(u64, |a, b| a.wrapping_sub(b)),
        Mnemonic::Psubusb => lanes!(u8, |a, b| a.saturating_sub(b)),
        Mnemonic::Psubusw => lanes!(u16, |a, b| a.saturating_sub(b)),
        Mnemonic::Pmullw => lanes!(u16, |a, b| a.wrapping_mul(b)),
        Mnemonic::Pmulld => lanes!(u32, |a, b| a.wrapping_mul(b)),
        Mnemonic::Pmuludq => lanes!(u64, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff)),
        Mnemonic::Pshufb => pick_bytes,
        Mnemonic::Packsswb => |a, b| pack_words(a, b, |lane| lane.clamp(-128, 127) as u8),
        Mnemonic::Packuswb => |a, b| pack_words(a, b, |lane| lane.clamp(0, 255) as u8),
        Mnemonic::Packssdw => |a, b| pack_doublewords(a, b, |lane| lane.clamp(-0x8000, 0x7fff) as u16),
        Mnemonic::Packusdw => |a, b| pack_doublewords(a, b, |lane| lane.clamp(0, 0xffff) as u16),
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

#[inline(always)]
fn apply(cpu: &mut Cpu, op: &Op, compute: impl Fn(u128, u128) -> u128) -> Step {
    let (mut a, b) = both_operands(cpu, op)?;
    for (a, b) in a.iter_mut().zip(b).take(halves(op)) {
        *a = compute(*a, b);
    }
    set(cpu, op, op.dst, a)
}

/// The handler for a mnemonic, of SSE or AVX, is an instance over this number, since a function pointer cannot be a
/// parameter.
macro_rules! handlers {
    ($instruction:expr, $($mnemonic:ident $vex:ident,)*) => {
        match $instruction.mnemonic() {
            $(Mnemonic::$mnemonic | Mnemonic::$vex => {
                fn handler(cpu: &mut Cpu, op: &Op) -> Step {
                    match const { computation(Mnemonic::$mnemonic) } {
                        Some(compute) => apply(cpu, op, compute),
                        None => Ok(()),
                    }
                }
                handler as Handler
            })*
            _ => return None,
        }
    };
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler = handlers!(instruction,
        Pxor Vpxor, Xorps Vxorps, Xorpd Vxorpd, Por Vpor, Orps Vorps, Orpd Vorpd, Pand Vpand, Andps Vandps, Andpd Vandpd,
        Pandn Vpandn, Andnps Vandnps, Andnpd Vandnpd,
        Pcmpeqb Vpcmpeqb, Pcmpeqw Vpcmpeqw, Pcmpeqd Vpcmpeqd, Pcmpeqq Vpcmpeqq,
        Pcmpgtb Vpcmpgtb, Pcmpgtw Vpcmpgtw, Pcmpgtd Vpcmpgtd, Pcmpgtq Vpcmpgtq,
        Pminub Vpminub, Pminuw Vpminuw, Pminud Vpminud, Pminsb Vpminsb, Pminsw Vpminsw, Pminsd Vpminsd,
        Pmaxub Vpmaxub, Pmaxuw Vpmaxuw, Pmaxud Vpmaxud, Pmaxsb Vpmaxsb, Pmaxsw Vpmaxsw, Pmaxsd Vpmaxsd,
        Paddb Vpaddb, Paddw Vpaddw, Paddd Vpaddd, Paddq Vpaddq, Paddusb Vpaddusb, Paddusw Vpaddusw,
        Psubb Vpsubb, Psubw Vpsubw, Psubd Vpsubd, Psubq Vpsubq, Psubusb Vpsubusb, Psubusw Vpsubusw,
        Pmullw Vpmullw, Pmulld Vpmulld, Pmuludq Vpmuludq, Pshufb Vpshufb,
        Packsswb Vpacksswb, Packuswb Vpackuswb, Packssdw Vpackssdw, Packusdw Vpackusdw,
        Punpcklbw Vpunpcklbw, Punpcklwd Vpunpcklwd, Punpckldq Vpunpckldq, Unpcklps Vunpcklps,
        Punpcklqdq Vpunpcklqdq, Unpcklpd Vunpcklpd, Punpckhbw Vpunpckhbw, Punpckhwd Vpunpckhwd,
        Punpckhdq Vpunpckhdq, Unpckhps Vunpckhps, Punpckhqdq Vpunpckhqdq, Unpckhpd Vunpckhpd,);
    binary(instruction, op)?;
    Some(handler)
}
