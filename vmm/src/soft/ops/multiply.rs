//! Multiplication: mul, imul with one, two and three operands.
//!
//! CF and OF say that the product does not fit the low half; the other flags are undefined and stay.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, RAX, RDX};
use super::super::step::Step;
use super::super::word::Word;
use super::shift::low;

/// The low and the high half of a product of size `T`, and whether the high half matters.
#[inline(always)]
fn product<T: Word, const SIGNED: bool>(a: u64, b: u64) -> (u64, u64, bool) {
    if SIGNED {
        let (a, b) = (T::sign_extend(a).cast_signed(), T::sign_extend(b).cast_signed());
        let product = i128::from(a) * i128::from(b);
        let fits = T::sign_extend(low(product.cast_unsigned())).cast_signed();
        let high = low((product >> T::BITS).cast_unsigned());
        return (low(product.cast_unsigned()), high, i128::from(fits) != product);
    }
    let product = u128::from(a) * u128::from(b);
    let high = low(product >> T::BITS);
    (low(product), high, high != 0)
}

/// Multiplies the accumulator into the double accumulator.
#[inline(always)]
fn widening<T: Word, const SIGNED: bool>(cpu: &mut Cpu, b: u64) {
    let (low, high, overflow) = product::<T, SIGNED>(cpu.get::<T>(RAX), b);
    if T::BITS == 8 {
        // AX has both halves.
        cpu.set::<u16>(RAX, low);
    } else {
        cpu.set::<T>(RAX, low);
        cpu.set::<T>(RDX, high);
    }
    cpu.flags.set_carry_and_overflow(overflow, overflow);
}

fn widening_reg<T: Word, const SIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.get::<T>(op.dst);
    widening::<T, SIGNED>(cpu, b);
    Ok(())
}

fn widening_mem<T: Word, const SIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.read::<T>(op.address(cpu))?;
    widening::<T, SIGNED>(cpu, b);
    Ok(())
}

fn one_operand<const SIGNED: bool>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let size = operands::size(instruction, 0);
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(sized!(size, T => widening_mem::<T, SIGNED>));
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(size, T => widening_reg::<T, SIGNED>))
}

#[inline(always)]
fn narrow<T: Word>(cpu: &mut Cpu, op: &Op, a: u64, b: u64) -> Step {
    let (low, _, overflow) = product::<T, true>(a, b);
    cpu.set::<T>(op.dst, low);
    cpu.flags.set_carry_and_overflow(overflow, overflow);
    Ok(())
}

fn by_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    narrow::<T>(cpu, op, cpu.get::<T>(op.dst), cpu.get::<T>(op.src))
}

fn by_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.read::<T>(op.address(cpu))?;
    narrow::<T>(cpu, op, cpu.get::<T>(op.dst), b)
}

fn reg_by_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    narrow::<T>(cpu, op, cpu.get::<T>(op.src), op.imm)
}

fn mem_by_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.read::<T>(op.address(cpu))?;
    narrow::<T>(cpu, op, a, op.imm)
}

fn signed(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let operands = instruction.op_count();
    if operands == 1 {
        return one_operand::<true>(instruction, op);
    }
    let form = operands::two(instruction, op)?;
    if operands == 3 {
        op.imm = instruction.immediate(2);
    }
    Some(sized!(operands::size(instruction, 0), T => match (operands, form) {
        (2, Form::RegReg) => by_reg::<T>,
        (2, Form::RegMem) => by_mem::<T>,
        (3, Form::RegReg) => reg_by_imm::<T>,
        (3, Form::RegMem) => mem_by_imm::<T>,
        _ => return None,
    }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Mul => one_operand::<false>(instruction, op),
        Mnemonic::Imul => signed(instruction, op),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::cpu::{RBX, RDI};
    use super::super::super::flags::{CF, OF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::store;
    use super::*;

    /// RAX, RDX and whether CF and OF are set after `code`, which has `b` in RBX and at RDI.
    fn after(code: &[u8], a: u64, b: u64) -> (u64, u64, bool) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = a;
            cpu.regs[usize::from(RBX)] = b;
            cpu.regs[usize::from(RDX)] = 0x1122_3344_5566_7788;
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, b);
        });
        let flags = cpu.flags.get() & (CF | OF);
        assert!(flags == 0 || flags == CF | OF);
        (cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RDX)], flags != 0)
    }

    #[test]
    fn products_have_two_halves() {
        let untouched = 0x1122_3344_5566_7788;
        for (code, a, b, expected) in [
            // mul bl: AX is the product, the rest of RAX stays
            (&[0xf6, 0xe3][..], 0xaaaa_bb10, 0x20, (0xaaaa_0200, untouched, true)),
            (&[0xf6, 0xe3], 0xaaaa_bb10, 0x0f, (0xaaaa_00f0, untouched, false)),
            // imul bl
            (&[0xf6, 0xeb], 0xff, 0x80, (0x0080, untouched, true)),
            (&[0xf6, 0xeb], 0xff, 0x7f, (0xff81, untouched, false)),
            // mul word [rdi]
            (&[0x66, 0xf7, 0x27], 0x5_ffff, 0x10000, (0x5_0000, untouched & !0xffff, false)),
            // imul ebx
            (&[0xf7, 0xeb], 0xffff_ffff, 2, (0xffff_fffe, 0xffff_ffff, false)),
        ] {
            assert_eq!(after(code, a, b), expected, "{code:x?}");
        }
    }

    #[test]
    fn immediates_are_extended_by_sign() {
        for (code, rax, overflow) in [
            // imul eax, ebx, -3; imul rax, [rdi], 0x10000; imul ax, bx, 0x100 and 0x200
            (&[0x6b, 0xc3, 0xfd][..], 0x9630_ff01, false),
            (&[0x48, 0x69, 0x07, 0, 0, 1, 0], 0x1_2345_0055_0000, false),
            (&[0x66, 0x69, 0xc3, 0, 1], 0x5500, false),
            (&[0x66, 0x69, 0xc3, 0, 2], 0xaa00, true),
        ] {
            let (result, _, over) = after(code, 0, 0x1_2345_0055);
            assert_eq!((result, over), (rax, overflow), "{code:x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn wide_products_are_exact(a: u64, b: u64, shift in 0u32..64) {
            let b = b >> shift;
            let product = u128::from(a) * u128::from(b);
            // mul rbx
            let (rax, rdx, over) = after(&[0x48, 0xf7, 0xe3], a, b);
            prop_assert_eq!((u128::from(rdx) << 64 | u128::from(rax), over), (product, product >> 64 != 0));
            let product = i128::from(a.cast_signed()) * i128::from(b.cast_signed());
            let over = i64::try_from(product).is_err();
            // imul qword [rdi]
            let (rax, rdx, carry) = after(&[0x48, 0xf7, 0x2f], a, b);
            prop_assert_eq!((u128::from(rdx) << 64 | u128::from(rax), carry), (product.cast_unsigned(), over));
            // imul rax, rbx; imul rax, [rdi]
            for code in [[0x48, 0x0f, 0xaf, 0xc3], [0x48, 0x0f, 0xaf, 0x07]] {
                let (rax, _, carry) = after(&code, a, b);
                prop_assert_eq!((rax, carry), (a.wrapping_mul(b), over));
            }
        }
    }
}
