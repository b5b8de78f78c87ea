//! Shifts and rotates: shl, shr, sar, rol, ror, rcl, rcr, by an immediate or by CL.
//!
//! With a count of zero, after masking, neither flags nor result change. OF is defined for counts of one only; it is
//! computed by the same rule for all.

use iced_x86::{Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, RCX};
use super::super::flags::Flags;
use super::super::step::Step;
use super::super::word::Word;

/// Bit `index` of `value`.
#[inline(always)]
pub(super) fn bit(value: u64, index: u64) -> bool {
    value >> (index & 63) & 1 != 0
}

/// The size in bits, as a count.
#[inline(always)]
fn bits<T: Word>() -> u64 {
    T::BITS.into()
}

/// The part of a count that counts: six bits for 64-bit operands, five for all others.
#[inline(always)]
pub(super) fn mask_count<T: Word>(count: u64) -> u64 {
    count & if T::BITS == 64 { 63 } else { 31 }
}

/// CF and OF after a shift to the left: the sign has changed if it differs from what was shifted out.
#[inline(always)]
pub(super) fn set_left<T: Word>(flags: &mut Flags, result: u64, carry: bool) {
    flags.set_carry_and_overflow(carry, bit(result, bits::<T>() - 1) != carry);
}

/// CF and OF after a shift to the right: the old sign is now one below the new one.
#[inline(always)]
pub(super) fn set_right<T: Word>(flags: &mut Flags, result: u64, carry: bool) {
    flags.set_carry_and_overflow(carry, bit(result, bits::<T>() - 1) != bit(result, bits::<T>() - 2));
}

trait Shift: 'static {
    /// The result of shifting `a` by `count`, which is masked and not zero. Sets the flags.
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64;
}

struct Left;
impl Shift for Left {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let carry = count <= bits::<T>() && bit(a, bits::<T>() - count);
        let result = a << count;
        flags.result::<T>(result);
        set_left::<T>(flags, result, carry);
        result
    }
}

struct Right;
impl Shift for Right {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let result = a >> count;
        flags.result::<T>(result);
        set_right::<T>(flags, result, bit(a, count - 1));
        result
    }
}

struct ArithmeticRight;
impl Shift for ArithmeticRight {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let a = T::sign_extend(a);
        let result = (a.cast_signed() >> count).cast_unsigned();
        flags.result::<T>(result);
        set_right::<T>(flags, result, bit(a, count - 1));
        result
    }
}

/// `a`, of size `T`, rotated to the left.
#[inline(always)]
fn rotate<T: Word>(a: u64, count: u64) -> u64 {
    let count = count & (bits::<T>() - 1);
    // Rotating by zero shifts by the whole size the other way, in two parts so that 64 is possible.
    (a << count | a >> (bits::<T>() - 1 - count) >> 1) & T::MASK
}

struct RotateLeft;
impl Shift for RotateLeft {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let result = rotate::<T>(a, count);
        set_left::<T>(flags, result, bit(result, 0));
        result
    }
}

struct RotateRight;
impl Shift for RotateRight {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let result = rotate::<T>(a, bits::<T>().wrapping_sub(count));
        set_right::<T>(flags, result, bit(result, bits::<T>() - 1));
        result
    }
}

/// CF and `a` as one number, CF on top, rotated to the left. `None` if it comes round to itself.
#[inline(always)]
fn rotate_with_carry<T: Word>(flags: &Flags, a: u64, count: u64) -> Option<(u64, bool)> {
    let width = bits::<T>() + 1;
    let count = count % width;
    if count == 0 {
        return None;
    }
    let wide = u128::from(flags.carry()) << T::BITS | u128::from(a);
    let rotated = wide << count | wide >> (width - count);
    Some((low(rotated) & T::MASK, rotated >> T::BITS & 1 != 0))
}

#[expect(clippy::cast_possible_truncation, reason = "its purpose")]
#[inline(always)]
pub(super) fn low(value: u128) -> u64 {
    value as u64
}

struct RotateCarryLeft;
impl Shift for RotateCarryLeft {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let Some((result, carry)) = rotate_with_carry::<T>(flags, a, count) else { return a };
        set_left::<T>(flags, result, carry);
        result
    }
}

struct RotateCarryRight;
impl Shift for RotateCarryRight {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
        let width = bits::<T>() + 1;
        let count = width - count % width;
        let Some((result, carry)) = rotate_with_carry::<T>(flags, a, count) else { return a };
        set_right::<T>(flags, result, carry);
        result
    }
}

#[inline(always)]
fn shifted<S: Shift, T: Word>(flags: &mut Flags, a: u64, count: u64) -> u64 {
    match mask_count::<T>(count) {
        0 => a,
        count => S::compute::<T>(flags, a, count),
    }
}

#[inline(always)]
fn in_register<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op, count: u64) -> Step {
    let a = cpu.get::<T>(op.dst);
    let result = shifted::<S, T>(&mut cpu.flags, a, count);
    cpu.set::<T>(op.dst, result);
    Ok(())
}

#[inline(always)]
fn in_memory<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op, count: u64) -> Step {
    cpu.modify::<T>(op.address(cpu), |flags, a| shifted::<S, T>(flags, a, count))
}

fn reg_imm<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_register::<S, T>(cpu, op, op.imm)
}

fn reg_cl<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_register::<S, T>(cpu, op, cpu.get::<u8>(RCX))
}

fn mem_imm<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_memory::<S, T>(cpu, op, op.imm)
}

fn mem_cl<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_memory::<S, T>(cpu, op, cpu.get::<u8>(RCX))
}

fn shift<S: Shift>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegImm => reg_imm::<S, T>,
        Form::RegReg => reg_cl::<S, T>,
        Form::MemImm => mem_imm::<S, T>,
        Form::MemReg => mem_cl::<S, T>,
        Form::RegMem => return None,
    }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => shift::<Left>(instruction, op),
        Mnemonic::Shr => shift::<Right>(instruction, op),
        Mnemonic::Sar => shift::<ArithmeticRight>(instruction, op),
        Mnemonic::Rol => shift::<RotateLeft>(instruction, op),
        Mnemonic::Ror => shift::<RotateRight>(instruction, op),
        Mnemonic::Rcl => shift::<RotateCarryLeft>(instruction, op),
        Mnemonic::Rcr => shift::<RotateCarryRight>(instruction, op),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::cpu::RAX;
    use super::super::super::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::{load, store};
    use super::*;

    /// Runs `code` with RAX, CL and flags as given; RAX and the arithmetic flags but AF afterwards.
    fn shifted(code: &[u8], rax: u64, cl: u64, flags: u64) -> (u64, u64) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = rax;
            cpu.regs[usize::from(RCX)] = cl;
            cpu.flags.set(flags);
        });
        (cpu.regs[usize::from(RAX)], cpu.flags.get() & ARITHMETIC & !AF)
    }

    /// Group 2 by CL: the operation is in bits 5:3 of the second byte, the operand is AL, AX, EAX or RAX.
    fn by_cl(operation: u8, size: u32) -> Vec<u8> {
        let modrm = 0xc0 | operation << 3;
        match size {
            8 => vec![0xd2, modrm],
            16 => vec![0x66, 0xd3, modrm],
            32 => vec![0xd3, modrm],
            _ => vec![0x48, 0xd3, modrm],
        }
    }

    #[test]
    fn one_place_sets_the_carry_and_the_overflow() {
        let high = 1u64 << 63;
        for (code, rax, before, result, flags) in [
            // shl rax, 1
            (&[0x48, 0xd1, 0xe0][..], high | 1, 0, 2, CF | OF),
            (&[0x48, 0xd1, 0xe0], high >> 1, 0, high, SF | OF | PF),
            // shr eax, 1
            (&[0xd1, 0xe8], 0x8000_0001, 0, 0x4000_0000, CF | OF | PF),
            // sar al, 1: the other bytes stay
            (&[0xd0, 0xf8], 0x1281, 0, 0x12c0, CF | SF | PF),
            // rol ax, 1: the flags of results stay
            (&[0x66, 0xd1, 0xc0], 0x8000, ZF | SF, 1, CF | OF | ZF | SF),
            // ror rax, 1
            (&[0x48, 0xd1, 0xc8], 1, PF, high, CF | OF | PF),
            // rcl al, 1
            (&[0xd0, 0xd0], 0x40, CF, 0x81, OF),
            // rcr eax, 1
            (&[0xd1, 0xd8], 1, CF, 0x8000_0000, CF | OF),
        ] {
            assert_eq!(shifted(code, rax, 0, before), (result, flags), "{code:x?}");
        }
    }

    #[test]
    fn by_nothing_changes_no_flag() {
        let all = ARITHMETIC & !AF;
        for operation in 0..8 {
            assert_eq!(shifted(&by_cl(operation, 64), 5, 64, all), (5, all), "{operation}");
            assert_eq!(shifted(&by_cl(operation, 8), 5, 32, all), (5, all), "{operation}");
            // What is written to a 32-bit register is all of it.
            assert_eq!(shifted(&by_cl(operation, 32), 1 << 40 | 5, 32, 0), (5, 0), "{operation}");
        }
        // rcl al, 9 comes round to itself
        assert_eq!(shifted(&by_cl(2, 8), 5, 9, all), (5, all));
    }

    #[test]
    fn small_operands_can_be_shifted_out_entirely() {
        // CF is defined up to the operand's size.
        assert_eq!(shifted(&by_cl(4, 8), 1, 8, 0).0, 0);
        assert_eq!(shifted(&by_cl(4, 8), 1, 8, 0).1 & CF, CF);
        assert_eq!(shifted(&by_cl(5, 16), 0x8000, 31, 0).0, 0);
        assert_eq!(shifted(&by_cl(7, 16), 0x8000, 31, 0), (0xffff, CF | SF | PF));
        // rol al, 8: the value stays, CF is its lowest bit
        assert_eq!(shifted(&by_cl(0, 8), 3, 8, 0).0, 3);
        assert_eq!(shifted(&by_cl(0, 8), 3, 8, 0).1 & CF, CF);
    }

    #[test]
    fn memory_is_shifted_in_place() {
        // sar dword [rdi], 4
        let cpu = run(&[0xc1, 0x3f, 4], |cpu| {
            cpu.regs[7] = DATA;
            store(cpu, DATA, 0xffff_ffff_8000_0008u64);
        });
        assert_eq!(load::<u64>(&cpu, DATA), 0xffff_ffff_f800_0000);
        assert!(cpu.flags.carry());
    }

    /// One place after the other, as the manual defines it: `(value, carry)`.
    fn one_place(operation: u8, size: u32, value: u64, carry: bool) -> (u64, bool) {
        let (top, mask) = (1u64 << (size - 1), u64::MAX >> (64 - size));
        let (first, last) = (value & top != 0, value & 1 != 0);
        let put = |set: bool, bit: u64| if set { bit } else { 0 };
        match operation {
            0 => ((value << 1 | u64::from(first)) & mask, first),
            1 => (value >> 1 | put(last, top), last),
            2 => ((value << 1 | u64::from(carry)) & mask, first),
            3 => (value >> 1 | put(carry, top), last),
            5 => (value >> 1, last),
            7 => (value >> 1 | put(first, top), last),
            _ => (value << 1 & mask, first),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn many_places_are_as_many_times_one(
            rax: u64, cl in 0u64..70, carry: bool, operation in 0u8..8, log_size in 3u32..7,
        ) {
            let size = 1 << log_size;
            let mask = u64::MAX >> (64 - size);
            let places = cl & if size == 64 { 63 } else { 31 };
            let (mut value, mut flag) = (rax & mask, carry);
            for _ in 0..places {
                (value, flag) = one_place(operation, size, value, flag);
            }
            let (result, flags) = shifted(&by_cl(operation, size), rax, cl, carry.into());
            prop_assert_eq!(result & mask, value);
            let is_shift = operation >= 4 && operation != 7;
            if places <= u64::from(size) || !is_shift {
                prop_assert_eq!(flags & CF != 0, flag);
            }
        }
    }
}
