//! Shifts that fill up from a second register: shld, shrd.

use iced_x86::{Code, Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, RCX};
use super::super::flags::Flags;
use super::super::step::Step;
use super::super::word::Word;
use super::shift::{bit, low, mask_count, set_left, set_right};

/// `a` shifted to the left, with what `fill` has on top coming in. Sets the flags unless the count is zero.
#[inline(always)]
fn left<T: Word>(flags: &mut Flags, mut a: u64, mut fill: u64, count: u64) -> u64 {
    let mut count = mask_count::<T>(count);
    if count == 0 {
        return a;
    }
    let size = u64::from(T::BITS);
    if count > size {
        // Only with 16 bits, where the result is undefined: CPUs go round.
        (a, fill, count) = (fill, a, count - size);
    }
    let wide = u128::from(a) << size | u128::from(fill);
    let result = low(wide >> (size - count));
    flags.result::<T>(result);
    set_left::<T>(flags, result, bit(a, size - count));
    result
}

/// `a` shifted to the right, with what `fill` has at its bottom coming in. Sets the flags unless the count is zero.
#[inline(always)]
fn right<T: Word>(flags: &mut Flags, mut a: u64, mut fill: u64, count: u64) -> u64 {
    let mut count = mask_count::<T>(count);
    if count == 0 {
        return a;
    }
    let size = u64::from(T::BITS);
    if count > size {
        (a, fill, count) = (fill, a, count - size);
    }
    let wide = u128::from(fill) << size | u128::from(a);
    let result = low(wide >> count);
    flags.result::<T>(result);
    set_right::<T>(flags, result, bit(a, count - 1));
    result
}

#[inline(always)]
fn compute<T: Word, const LEFT: bool>(flags: &mut Flags, a: u64, fill: u64, count: u64) -> u64 {
    if LEFT { left::<T>(flags, a, fill, count) } else { right::<T>(flags, a, fill, count) }
}

#[inline(always)]
fn count_of<const CL: bool>(cpu: &Cpu, op: &Op) -> u64 {
    if CL { cpu.get::<u8>(RCX) } else { op.imm }
}

fn in_register<T: Word, const LEFT: bool, const CL: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, fill, count) = (cpu.get::<T>(op.dst), cpu.get::<T>(op.src), count_of::<CL>(cpu, op));
    let result = compute::<T, LEFT>(&mut cpu.flags, a, fill, count);
    cpu.set::<T>(op.dst, result);
    Ok(())
}

fn in_memory<T: Word, const LEFT: bool, const CL: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let (fill, count) = (cpu.get::<T>(op.src), count_of::<CL>(cpu, op));
    cpu.modify::<T>(op.address(cpu), |flags, a| compute::<T, LEFT>(flags, a, fill, count))
}

fn shift<const LEFT: bool>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    let by_cl = matches!(
        instruction.code(),
        Code::Shld_rm16_r16_CL
            | Code::Shld_rm32_r32_CL
            | Code::Shld_rm64_r64_CL
            | Code::Shrd_rm16_r16_CL
            | Code::Shrd_rm32_r32_CL
            | Code::Shrd_rm64_r64_CL
    );
    if !by_cl {
        op.imm = instruction.immediate(2);
    }
    Some(sized!(operands::size(instruction, 0), T => match (form, by_cl) {
        (Form::RegReg, false) => in_register::<T, LEFT, false>,
        (Form::RegReg, true) => in_register::<T, LEFT, true>,
        (Form::MemReg, false) => in_memory::<T, LEFT, false>,
        (Form::MemReg, true) => in_memory::<T, LEFT, true>,
        _ => return None,
    }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Shld => shift::<true>(instruction, op),
        Mnemonic::Shrd => shift::<false>(instruction, op),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{RAX, RBX};
    use super::super::super::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::{load, store};
    use super::*;

    const SIXTEEN: u64 = 0x1234_5678_9abc_8def;

    #[test]
    fn bits_move_in_from_the_second_operand() {
        for (code, cl, result, flags) in [
            // shld rax, rbx, 4
            (&[0x48, 0x0f, 0xa4, 0xd8, 4][..], 0, 0x2345_6789_abc8_defa, CF | PF),
            // shrd rax, rbx, cl
            (&[0x48, 0x0f, 0xad, 0xd8], 8, 0x9912_3456_789a_bc8d, CF | SF | PF),
            // shld eax, ebx, cl
            (&[0x0f, 0xa5, 0xd8], 16, 0x8def_0123, SF),
            // shrd ax, bx, 1
            (&[0x66, 0x0f, 0xac, 0xd8, 1], 0, 0x1234_5678_9abc_c6f7, CF | SF),
            // shld eax, ebx, cl by nothing: the upper half is cleared all the same
            (&[0x0f, 0xa5, 0xd8], 32, 0x9abc_8def, ZF),
        ] {
            let cpu = run(code, |cpu| {
                cpu.regs[usize::from(RAX)] = SIXTEEN;
                cpu.regs[usize::from(RBX)] = 0xabcd_ef01_0123_4599;
                cpu.regs[usize::from(RCX)] = cl;
                cpu.flags.set(ZF);
            });
            assert_eq!(cpu.regs[usize::from(RAX)], result, "{code:x?}");
            // OF is defined for one place only.
            let defined = if code.last() == Some(&1) { ARITHMETIC } else { ARITHMETIC & !OF };
            assert_eq!(cpu.flags.get() & defined, flags & defined, "{code:x?}");
        }
    }

    #[test]
    fn memory_is_shifted_in_place() {
        // shrd [rdi], ebx, 8
        let cpu = run(&[0x0f, 0xac, 0x1f, 8], |cpu| {
            cpu.regs[7] = DATA;
            cpu.regs[usize::from(RBX)] = 0x11;
            store(cpu, DATA, SIXTEEN);
        });
        assert_eq!(load::<u64>(&cpu, DATA), 0x1234_5678_119a_bc8d);
    }
}
