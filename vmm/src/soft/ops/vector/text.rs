//! SSE4.2's string comparisons: pcmpistri, pcmpistrm, pcmpestri, pcmpestrm. Intel SDM volume 2, section 4.1: "Imm8 control byte operation".

use iced_x86::{Code, Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX, RCX, RDX};
use super::super::super::flags::{CF, OF, SF, ZF};
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::memory::load;
use super::operands::{encoding, immediate, is_memory, last, last_or_memory, register, trailing_immediate};
use super::registers::{get_low, ready, set_low};

/// Bits of the immediate byte: what the characters are…
const WORDS: u8 = 1;
const SIGNED: u8 = 1 << 1;
/// …what to look for…
const AGGREGATION: u8 = 3 << 2;
const RANGES: u8 = 1 << 2;
const EACH: u8 = 2 << 2;
const ORDERED: u8 = 3 << 2;
/// …whether to turn the result around, and then only where the last operand has characters…
const NEGATIVE: u8 = 1 << 4;
const MASKED: u8 = 1 << 5;
/// …and the highest index instead of the lowest, or a mask of characters instead of bits.
const OTHER_OUTPUT: u8 = 1 << 6;

const XMM0: u8 = 0;

/// Most characters.
const MOST: usize = 16;

/// A string of up to 16 characters.
#[derive(Debug, Clone, Copy)]
struct Text {
    characters: [i32; MOST],
    /// How many of the characters count.
    len: usize,
}

impl Text {
    fn new(value: u128, control: u8) -> Self {
        let mut characters = [0; MOST];
        let bytes = value.to_le_bytes();
        let words = bytes.as_chunks::<2>().0;
        for (index, character) in characters.iter_mut().enumerate().take(places(control)) {
            let byte = bytes.get(index).copied().unwrap_or_default();
            let word = words.get(index).copied().unwrap_or_default();
            *character = match (control & WORDS != 0, control & SIGNED != 0) {
                (false, false) => byte.into(),
                (false, true) => byte.cast_signed().into(),
                (true, false) => u16::from_le_bytes(word).into(),
                (true, true) => i16::from_le_bytes(word).into(),
            };
        }
        Self { characters, len: places(control) }
    }

    /// It ends before the first zero.
    fn up_to_zero(mut self) -> Self {
        let zero = self.all().iter().position(|character| *character == 0);
        self.len = zero.unwrap_or(self.len);
        self
    }

    /// It has as many characters as a signed length says.
    fn up_to(mut self, len: i64) -> Self {
        let len = usize::try_from(len.unsigned_abs()).unwrap_or(usize::MAX);
        self.len = self.len.min(len);
        self
    }

    fn all(&self) -> &[i32] {
        self.characters.get(..self.len).unwrap_or_default()
    }
}

/// Characters that a vector has place for.
fn places(control: u8) -> usize {
    if control & WORDS != 0 { 8 } else { 16 }
}

/// Whether `b` has at `index` what the immediate says to look for in it.
fn matches(a: &Text, b: &Text, index: usize, control: u8) -> bool {
    let character = b.all().get(index);
    match control & AGGREGATION {
        RANGES => character.is_some_and(|character| {
            a.all().as_chunks::<2>().0.iter().any(|[from, to]| from <= character && character <= to)
        }),
        EACH => a.all().get(index) == character,
        ORDERED => {
            // As much of `a` as has place behind the index.
            let wanted = a.all().iter().take(places(control) - index);
            let found = b.all().get(index..).unwrap_or_default();
            wanted.len() <= found.len() && wanted.zip(found).all(|(wanted, found)| wanted == found)
        }
        _ => character.is_some_and(|character| a.all().contains(character)),
    }
}

/// Compares two strings: a bit for each place. Sets the flags.
fn compare(cpu: &mut Cpu, a: &Text, b: &Text, control: u8) -> u32 {
    let places = places(control);
    let mut result = 0;
    for index in 0..places {
        let negative = control & NEGATIVE != 0 && (control & MASKED == 0 || index < b.len);
        if matches(a, b, index, control) != negative {
            result |= 1 << index;
        }
    }
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    cpu.flags.set_arithmetic(
        flag(result != 0, CF)
            | flag(b.len < places, ZF)
            | flag(a.len < places, SF)
            | flag(result & 1 != 0, OF),
    );
    result
}

/// Both operands, with their lengths in RAX and RDX as numbers of size `T`, or up to a zero for `u8`.
fn texts<T: Word>(cpu: &mut Cpu, op: &Op) -> Step<(Text, Text)> {
    ready(cpu, op)?;
    // Memory need not be aligned.
    let b = if is_memory(op) { load(cpu, op)?[0] } else { get_low(cpu, last(op))? };
    let control = immediate(op);
    let a = Text::new(get_low(cpu, op.src)?, control);
    let b = Text::new(b, control);
    if T::BITS == 8 {
        return Ok((a.up_to_zero(), b.up_to_zero()));
    }
    let len = |register| T::sign_extend(cpu.get::<T>(register)).cast_signed();
    Ok((a.up_to(len(RAX)), b.up_to(len(RDX))))
}

fn to_index<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = texts::<T>(cpu, op)?;
    let control = immediate(op);
    let found = compare(cpu, &a, &b, control);
    let index = if found == 0 {
        places(control) as u64
    } else if control & OTHER_OUTPUT != 0 {
        found.ilog2().into()
    } else {
        found.trailing_zeros().into()
    };
    cpu.set::<u32>(RCX, index);
    Ok(())
}

fn to_mask<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = texts::<T>(cpu, op)?;
    let control = immediate(op);
    let found = compare(cpu, &a, &b, control);
    let mask = if control & OTHER_OUTPUT == 0 {
        found.into()
    } else {
        let bits = 128 / places(control);
        let is_found = |index: &usize| found >> index & 1 != 0;
        let ones = u128::MAX >> (128 - bits);
        (0..places(control)).filter(is_found).fold(0, |mask, index| mask | ones << (index * bits))
    };
    set_low(cpu, op, XMM0, mask)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let wide = matches!(
        instruction.code(),
        Code::Pcmpestri64_xmm_xmmm128_imm8
            | Code::Pcmpestrm64_xmm_xmmm128_imm8
            | Code::VEX_Vpcmpestri64_xmm_xmmm128_imm8
            | Code::VEX_Vpcmpestrm64_xmm_xmmm128_imm8
    );
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Pcmpistri | Mnemonic::Vpcmpistri => to_index::<u8>,
        Mnemonic::Pcmpistrm | Mnemonic::Vpcmpistrm => to_mask::<u8>,
        Mnemonic::Pcmpestri | Mnemonic::Pcmpestri64 | Mnemonic::Vpcmpestri | Mnemonic::Vpcmpestri64 => {
            if wide { to_index::<u64> } else { to_index::<u32> }
        }
        Mnemonic::Pcmpestrm | Mnemonic::Pcmpestrm64 | Mnemonic::Vpcmpestrm | Mnemonic::Vpcmpestrm64 => {
            if wide { to_mask::<u64> } else { to_mask::<u32> }
        }
        _ => return None,
    };
    trailing_immediate(instruction, op);
    encoding(instruction, op);
    op.src = register(instruction.op_register(0))?;
    last_or_memory(instruction, 1, op)?;
    Some(handler)
}
