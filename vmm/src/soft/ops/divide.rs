//! Division: div, idiv; and what extends dividends by their sign: cbw, cwde, cdqe, cwd, cdq, cqo.
//!
//! Division leaves all flags undefined; they stay.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, sized};
use super::super::cpu::{Cpu, HIGH_BYTE, RAX, RDX};
use super::super::step::{Exception, Step};
use super::super::word::Word;
use super::shift::low;

/// Quotient and remainder of a dividend of size twice `T`; `None` if the quotient does not fit.
#[inline(always)]
fn unsigned<T: Word>(high: u64, low_half: u64, divisor: u64) -> Option<(u64, u64)> {
    // Also when the divisor is zero.
    if high >= divisor {
        return None;
    }
    if T::BITS == 64 && high != 0 {
        let (dividend, divisor) = (u128::from(high) << 64 | u128::from(low_half), u128::from(divisor));
        return Some((low(dividend.checked_div(divisor)?), low(dividend.checked_rem(divisor)?)));
    }
    // Zero for 64 bits, whatever the shift makes of it.
    let dividend = high.unbounded_shl(T::BITS) | low_half;
    Some((dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?))
}

#[inline(always)]
fn signed<T: Word>(high: u64, low_half: u64, divisor: u64) -> Option<(u64, u64)> {
    let divisor = T::sign_extend(divisor).cast_signed();
    if T::BITS == 64 && high.cast_signed() != low_half.cast_signed() >> 63 {
        let dividend = (u128::from(high) << 64 | u128::from(low_half)).cast_signed();
        let quotient = i64::try_from(dividend.checked_div(divisor.into())?).ok()?;
        let remainder = dividend.checked_rem(divisor.into())?;
        return Some((quotient.cast_unsigned(), low(remainder.cast_unsigned())));
    }
    let dividend = (T::sign_extend(high).unbounded_shl(T::BITS) | low_half).cast_signed();
    let quotient = dividend.checked_div(divisor)?.cast_unsigned();
    let remainder = dividend.checked_rem(divisor)?.cast_unsigned();
    (T::sign_extend(quotient) == quotient).then_some((quotient, remainder))
}

#[inline(always)]
fn divide<T: Word, const SIGNED: bool>(cpu: &mut Cpu, divisor: u64) -> Step {
    // The double accumulator of bytes is AX.
    let upper = if T::BITS == 8 { RAX | HIGH_BYTE } else { RDX };
    let (high, low) = (cpu.get::<T>(upper), cpu.get::<T>(RAX));
    let result = if SIGNED { signed::<T>(high, low, divisor) } else { unsigned::<T>(high, low, divisor) };
    let Some((quotient, remainder)) = result else { return cpu.raise(Exception::DIVIDE) };
    cpu.set::<T>(RAX, quotient);
    cpu.set::<T>(upper, remainder);
    Ok(())
}

fn divide_reg<T: Word, const SIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    divide::<T, SIGNED>(cpu, cpu.get::<T>(op.dst))
}

fn divide_mem<T: Word, const SIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let divisor = cpu.read::<T>(op.address(cpu))?;
    divide::<T, SIGNED>(cpu, divisor)
}

fn division<const SIGNED: bool>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let size = operands::size(instruction, 0);
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(sized!(size, T => divide_mem::<T, SIGNED>));
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(size, T => divide_reg::<T, SIGNED>))
}

/// The accumulator from size `F` to size `T`.
fn extend<F: Word, T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let value = F::sign_extend(cpu.get::<F>(RAX));
    cpu.set::<T>(RAX, value);
    Ok(())
}

/// RDX becomes the sign of RAX.
fn sign<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let value = T::sign_extend(cpu.get::<T>(RAX)).cast_signed() >> 63;
    cpu.set::<T>(RDX, value.cast_unsigned());
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Div => return division::<false>(instruction, op),
        Mnemonic::Idiv => return division::<true>(instruction, op),
        Mnemonic::Cbw => extend::<u8, u16>,
        Mnemonic::Cwde => extend::<u16, u32>,
        Mnemonic::Cdqe => extend::<u32, u64>,
        Mnemonic::Cwd => sign::<u16>,
        Mnemonic::Cdq => sign::<u32>,
        Mnemonic::Cqo => sign::<u64>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::cpu::{RBX, RDI};
    use super::super::super::step::Stop;
    use super::super::super::testing::{DATA, interpreter};
    use super::super::testing::store;
    use super::*;

    /// RAX and RDX after `code`, which has the divisor in RBX and at RDI; `None` for a divide error.
    fn after(code: &[u8], rax: u64, rdx: u64, divisor: u64) -> Option<(u64, u64)> {
        let mut interpreter = interpreter(code);
        let cpu = &mut interpreter.cpu;
        cpu.regs[usize::from(RAX)] = rax;
        cpu.regs[usize::from(RDX)] = rdx;
        cpu.regs[usize::from(RBX)] = divisor;
        cpu.regs[usize::from(RDI)] = DATA;
        store(cpu, DATA, divisor);
        let result = interpreter.step();
        let cpu = &interpreter.cpu;
        let values = (cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RDX)]);
        if result == Err(Stop::Fault) {
            assert_eq!((cpu.exception, values), (Some(Exception::DIVIDE), (rax, rdx)));
            return None;
        }
        assert_eq!(result, Ok(()));
        Some(values)
    }

    #[test]
    fn quotients_that_do_not_fit_raise_an_exception() {
        let min = 1u64 << 63;
        for (code, rax, rdx, divisor) in [
            // div of each size, by zero and with too much above
            (&[0xf6, 0xf3][..], 1, 0, 0),
            (&[0xf6, 0xf3], 0x200, 0, 2),
            (&[0x66, 0xf7, 0xf3], 0, 7, 7),
            (&[0xf7, 0xf3], 0, 7, 7),
            (&[0x48, 0xf7, 0xf3], 0, 7, 7),
            (&[0x48, 0xf7, 0x37], 5, 0, 0),
            // idiv: the smallest number by -1, and one too many
            (&[0xf6, 0xfb], 0xff80, 0, 0xff),
            (&[0xf6, 0xfb], 0x8000, 0, 0xff),
            (&[0x66, 0xf7, 0xfb], 0x8000, 0xffff, 0xffff),
            (&[0xf7, 0xfb], 0, 0x8000_0000, 0xffff_ffff),
            (&[0xf7, 0x3f], 0x8000_0000, 0, 1),
            (&[0x48, 0xf7, 0xfb], min, u64::MAX, u64::MAX),
            (&[0x48, 0xf7, 0xfb], 0, min, u64::MAX),
            (&[0x48, 0xf7, 0xfb], min, 0, 1),
            (&[0x48, 0xf7, 0xfb], 1, 0, 0),
            (&[0x48, 0xf7, 0xfb], 1, 1, 0),
        ] {
            assert_eq!(after(code, rax, rdx, divisor), None, "{code:x?} {rax:#x} {rdx:#x} {divisor:#x}");
        }
    }

    #[test]
    fn each_size_has_its_accumulator() {
        for (code, rax, rdx, divisor, expected) in [
            // div bl: AL and AH
            (&[0xf6, 0xf3][..], 0x5_0207, 9, 0x10, (0x5_0720, 9)),
            // idiv bl: -7 / 2
            (&[0xf6, 0xfb], 0xfff9, 9, 2, (0xfffd, 9)),
            // div bx
            (&[0x66, 0xf7, 0xf3], 0x7_0003, 0x8_0001, 2, (0x7_8001, 0x8_0001)),
            // idiv dword [rdi]: -7 / -2
            (&[0xf7, 0x3f], 0xffff_fff9, 0xffff_ffff, 0xffff_fffe, (3, 0xffff_ffff)),
            // idiv ebx, with the smallest quotient
            (&[0xf7, 0xfb], 0x8000_0000, 0xffff_ffff, 1, (0x8000_0000, 0)),
        ] {
            assert_eq!(after(code, rax, rdx, divisor), Some(expected), "{code:x?}");
        }
    }

    #[test]
    fn signs_are_extended() {
        for (code, rax, expected) in [
            // cbw, cwde, cdqe
            (&[0x66, 0x98][..], 0x1111_1111_1111_1180, (0x1111_1111_1111_ff80, 5)),
            (&[0x98], 0x1111_1111_1111_8000, (0xffff_8000, 5)),
            (&[0x48, 0x98], 0x1111_1111_8000_0000, (0xffff_ffff_8000_0000, 5)),
            // cwd, cdq, cqo
            (&[0x66, 0x99], 0x8000, (0x8000, 0xffff)),
            (&[0x99], 0x8000_0000, (0x8000_0000, 0xffff_ffff)),
            (&[0x48, 0x99], 1 << 63, (1 << 63, u64::MAX)),
            (&[0x48, 0x99], 1, (1, 0)),
        ] {
            assert_eq!(after(code, rax, 5, 1), Some(expected), "{code:x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn what_was_multiplied_divides_again(quotient: u64, divisor: u64, remainder: u64, shift in 0u32..64) {
            let divisor = (divisor >> shift).max(1);
            let remainder = remainder % divisor;
            let dividend = u128::from(quotient) * u128::from(divisor) + u128::from(remainder);
            let (high, low) = (low(dividend >> 64), low(dividend));
            prop_assert_eq!(after(&[0x48, 0xf7, 0xf3], low, high, divisor), Some((quotient, remainder)));

            let divisor = (divisor >> 1).max(1).cast_signed();
            for (divisor, quotient) in [(divisor, quotient.cast_signed()), (-divisor, quotient.cast_signed())] {
                let remainder = (remainder.cast_signed() % divisor).abs();
                let product = i128::from(quotient) * i128::from(divisor);
                // The remainder has the sign of the dividend.
                let remainder = if product < 0 { -remainder } else { remainder };
                prop_assume!(product != 0);
                let dividend = (product + i128::from(remainder)).cast_unsigned();
                let expected = (quotient.cast_unsigned(), remainder.cast_unsigned());
                let (high, low) = (super::low(dividend >> 64), super::low(dividend));
                let result = after(&[0x48, 0xf7, 0xfb], low, high, divisor.cast_unsigned());
                prop_assert_eq!(result, Some(expected));
            }
        }
    }
}
