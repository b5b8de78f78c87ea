//! Computing on pairs of lanes of 1 to 8 bytes: bitwise, comparing, adding, packing, interleaving.
//!
//! Those of 256 bits do the same to each half as those of 128 bits.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::both_operands;
use super::operands::binary;
use super::registers::set;

/// The two halves of a vector, byte by byte. Between two functions that are not inlined, so that the compiler keeps them
/// in vector registers and does not take them apart into numbers of 64 bits.
type Bytes = [[u8; 16]; 2];

/// Replaces the first vector by what an operation makes of both. All 256 bits, since that is as quick as 128.
type Compute = fn(&mut Bytes, &Bytes);

#[inline(never)]
fn get_operands(cpu: &mut Cpu, op: &Op, operands: &mut [Bytes; 2]) -> Step {
    let (a, b) = both_operands(cpu, op)?;
    *operands = [a.map(u128::to_le_bytes), b.map(u128::to_le_bytes)];
    Ok(())
}

#[inline(never)]
fn finish(cpu: &mut Cpu, op: &Op, result: &Bytes) -> Step {
    set(cpu, op, op.dst, result.map(u128::from_le_bytes))
}

/// Applies `compute` to each pair of lanes of `$type`. Written so that the compiler makes vector instructions of it.
macro_rules! lanes {
    ($type:ty, $compute:expr) => {
        |a: &mut Bytes, b: &Bytes| {
            const BYTES: usize = size_of::<$type>();
            #[inline(always)]
            fn split(vector: &Bytes) -> [$type; 32 / BYTES] {
                let lanes = vector.as_flattened().as_chunks().0;
                std::array::from_fn(|index| <$type>::from_le_bytes(lanes[index]))
            }
            let compute: fn($type, $type) -> $type = $compute;
            let (lanes_of_a, lanes_of_b) = (split(a), split(b));
            let mut result = [[0; 16]; 2];
            for (index, lane) in result.as_flattened_mut().as_chunks_mut().0.iter_mut().enumerate() {
                *lane = compute(lanes_of_a[index], lanes_of_b[index]).to_le_bytes();
            }
            *a = result;
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

/// Makes each byte of the result from the halves that it belongs to, by its index in them.
#[inline(always)]
fn make_bytes(a: &mut Bytes, b: &Bytes, byte: impl Fn(&[u8; 16], &[u8; 16], usize) -> u8) {
    for (a, b) in a.iter_mut().zip(b) {
        let mut result = [0; 16];
        for (index, to) in result.iter_mut().enumerate() {
            *to = byte(a, b, index);
        }
        *a = result;
    }
}

/// Takes lanes of `BYTES` bytes alternately from the low (or high) parts of `a` and `b`.
fn interleave<const BYTES: usize, const HIGH: bool>(a: &mut Bytes, b: &Bytes) {
    let start = if HIGH { 8 } else { 0 };
    make_bytes(a, b, |a, b, index| {
        let from = start + index / (2 * BYTES) * BYTES + index % BYTES;
        if (index / BYTES).is_multiple_of(2) { a[from] } else { b[from] }
    });
}

/// Picks bytes of `a` by the low four bits of those of `b`, zero where their highest bit is set.
fn pick_bytes(a: &mut Bytes, b: &Bytes) {
    make_bytes(a, b, |a, b, index| {
        let choice = b[index];
        if choice & 0x80 != 0 { 0 } else { a[usize::from(choice & 15)] }
    });
}

/// The lanes of 16 bits of `a`, then those of `b`, each as a byte that `narrow` makes of it.
#[inline(always)]
fn pack_words(a: &mut Bytes, b: &Bytes, narrow: impl Fn(i16) -> u8) {
    make_bytes(a, b, |a, b, index| {
        let from = if index < 8 { a } else { b };
        let at = index % 8 * 2;
        narrow(i16::from_le_bytes([from[at], from[at + 1]]))
    });
}

/// The same from 32 to 16 bits.
#[inline(always)]
fn pack_doublewords(a: &mut Bytes, b: &Bytes, narrow: impl Fn(i32) -> u16) {
    make_bytes(a, b, |a, b, index| {
        let from = if index < 8 { a } else { b };
        let at = index % 8 / 2 * 4;
        let lane = i32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        narrow(lane).to_le_bytes()[index % 2]
    });
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value was brought into range, or wraps as documented"
)]
const fn computation(mnemonic: Mnemonic) -> Option<Compute> {
    Some(match mnemonic {
        Mnemonic::Pxor | Mnemonic::Xorps | Mnemonic::Xorpd => lanes!(u64, |a, b| a ^ b),
        Mnemonic::Por | Mnemonic::Orps | Mnemonic::Orpd => lanes!(u64, |a, b| a | b),
        Mnemonic::Pand | Mnemonic::Andps | Mnemonic::Andpd => lanes!(u64, |a, b| a & b),
        Mnemonic::Pandn | Mnemonic::Andnps | Mnemonic::Andnpd => lanes!(u64, |a, b| !a & b),
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
fn apply(cpu: &mut Cpu, op: &Op, compute: impl Fn(&mut Bytes, &Bytes)) -> Step {
    let mut operands = [[[0; 16]; 2]; 2];
    get_operands(cpu, op, &mut operands)?;
    let [mut a, b] = operands;
    compute(&mut a, &b);
    finish(cpu, op, &a)
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
