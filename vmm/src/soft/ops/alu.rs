//! Two- and one-operand arithmetic and logic: add, adc, sub, sbb, cmp, and, or, xor, test, inc, dec, neg, not.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::Cpu;
use super::super::flags::Flags;
use super::super::step::Step;
use super::super::word::Word;

/// An operation on two operands.
trait Binary: 'static {
    /// Whether the result goes to the first operand.
    const WRITES: bool = true;

    /// The result of `a op b`, whose bits beyond the size do not count; sets the flags.
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64;
}

struct Add;
impl Binary for Add {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        let result = a.wrapping_add(b);
        flags.add::<T>(a, b, result);
        result
    }
}

struct AddWithCarry;
impl Binary for AddWithCarry {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        let result = a.wrapping_add(b).wrapping_add(flags.carry().into());
        flags.add::<T>(a, b, result);
        result
    }
}

struct Subtract;
impl Binary for Subtract {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        let result = a.wrapping_sub(b);
        flags.subtract::<T>(a, b, result);
        result
    }
}

struct SubtractWithBorrow;
impl Binary for SubtractWithBorrow {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        let result = a.wrapping_sub(b).wrapping_sub(flags.carry().into());
        flags.subtract::<T>(a, b, result);
        result
    }
}

struct Compare;
impl Binary for Compare {
    const WRITES: bool = false;

    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        Subtract::compute::<T>(flags, a, b)
    }
}

struct And;
impl Binary for And {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        flags.logic::<T>(a & b);
        a & b
    }
}

struct Test;
impl Binary for Test {
    const WRITES: bool = false;

    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        And::compute::<T>(flags, a, b)
    }
}

struct Or;
impl Binary for Or {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        flags.logic::<T>(a | b);
        a | b
    }
}

struct Xor;
impl Binary for Xor {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64, b: u64) -> u64 {
        flags.logic::<T>(a ^ b);
        a ^ b
    }
}

/// An operation on one operand.
trait Unary: 'static {
    /// The result, whose bits beyond the size do not count; sets the flags.
    fn compute<T: Word>(flags: &mut Flags, a: u64) -> u64;
}

struct Increment;
impl Unary for Increment {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64) -> u64 {
        let carry = flags.carry();
        let result = Add::compute::<T>(flags, a, 1);
        flags.set_carry(carry);
        result
    }
}

struct Decrement;
impl Unary for Decrement {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64) -> u64 {
        let carry = flags.carry();
        let result = Subtract::compute::<T>(flags, a, 1);
        flags.set_carry(carry);
        result
    }
}

struct Negate;
impl Unary for Negate {
    #[inline(always)]
    fn compute<T: Word>(flags: &mut Flags, a: u64) -> u64 {
        Subtract::compute::<T>(flags, 0, a)
    }
}

struct Not;
impl Unary for Not {
    #[inline(always)]
    fn compute<T: Word>(_: &mut Flags, a: u64) -> u64 {
        !a
    }
}

fn reg_reg<O: Binary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.get::<T>(op.dst), cpu.get::<T>(op.src));
    let result = O::compute::<T>(&mut cpu.flags, a, b);
    if O::WRITES {
        cpu.set::<T>(op.dst, result);
    }
    Ok(())
}

fn reg_imm<O: Binary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.get::<T>(op.dst);
    let result = O::compute::<T>(&mut cpu.flags, a, op.imm & T::MASK);
    if O::WRITES {
        cpu.set::<T>(op.dst, result);
    }
    Ok(())
}

fn reg_mem<O: Binary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.read::<T>(op.address(cpu))?;
    let a = cpu.get::<T>(op.dst);
    let result = O::compute::<T>(&mut cpu.flags, a, b);
    if O::WRITES {
        cpu.set::<T>(op.dst, result);
    }
    Ok(())
}

fn mem_reg<O: Binary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.get::<T>(op.src);
    with_memory::<O, T>(cpu, op.address(cpu), b)
}

fn mem_imm<O: Binary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    with_memory::<O, T>(cpu, op.address(cpu), op.imm & T::MASK)
}

#[inline(always)]
fn with_memory<O: Binary, T: Word>(cpu: &mut Cpu, address: u64, b: u64) -> Step {
    if O::WRITES {
        return cpu.modify::<T>(address, |flags, a| O::compute::<T>(flags, a, b));
    }
    let a = cpu.read::<T>(address)?;
    O::compute::<T>(&mut cpu.flags, a, b);
    Ok(())
}

fn unary_reg<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.get::<T>(op.dst);
    let result = O::compute::<T>(&mut cpu.flags, a);
    cpu.set::<T>(op.dst, result);
    Ok(())
}

fn unary_mem<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.modify::<T>(op.address(cpu), |flags, a| O::compute::<T>(flags, a))
}

fn binary<O: Binary>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    let size = operands::size(instruction, 0);
    Some(sized!(size, T => match form {
        Form::RegReg => reg_reg::<O, T>,
        Form::RegMem => reg_mem::<O, T>,
        Form::RegImm => reg_imm::<O, T>,
        Form::MemReg => mem_reg::<O, T>,
        Form::MemImm => mem_imm::<O, T>,
    }))
}

fn unary<O: Unary>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let size = operands::size(instruction, 0);
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(sized!(size, T => unary_mem::<O, T>));
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(size, T => unary_reg::<O, T>))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Add => binary::<Add>(instruction, op),
        Mnemonic::Adc => binary::<AddWithCarry>(instruction, op),
        Mnemonic::Sub => binary::<Subtract>(instruction, op),
        Mnemonic::Sbb => binary::<SubtractWithBorrow>(instruction, op),
        Mnemonic::Cmp => binary::<Compare>(instruction, op),
        Mnemonic::And => binary::<And>(instruction, op),
        Mnemonic::Test => binary::<Test>(instruction, op),
        Mnemonic::Or => binary::<Or>(instruction, op),
        Mnemonic::Xor => binary::<Xor>(instruction, op),
        Mnemonic::Inc => unary::<Increment>(instruction, op),
        Mnemonic::Dec => unary::<Decrement>(instruction, op),
        Mnemonic::Neg => unary::<Negate>(instruction, op),
        Mnemonic::Not => unary::<Not>(instruction, op),
        _ => None,
    }
}
