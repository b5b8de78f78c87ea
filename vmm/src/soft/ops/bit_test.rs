//! Single bits: bt, bts, btr, btc.
//!
//! With a bit number in a register and a memory operand, the number reaches beyond the operand, in both directions.

use iced_x86::{Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::Cpu;
use super::super::flags::Flags;
use super::super::step::Step;
use super::super::word::Word;

trait BitOperation: 'static {
    /// Whether the bit changes.
    const WRITES: bool = true;

    /// What becomes of the operand, given the mask of the bit.
    fn apply(value: u64, mask: u64) -> u64;
}

struct Test;
impl BitOperation for Test {
    const WRITES: bool = false;

    #[inline(always)]
    fn apply(value: u64, _: u64) -> u64 {
        value
    }
}

struct Set;
impl BitOperation for Set {
    #[inline(always)]
    fn apply(value: u64, mask: u64) -> u64 {
        value | mask
    }
}

struct Reset;
impl BitOperation for Reset {
    #[inline(always)]
    fn apply(value: u64, mask: u64) -> u64 {
        value & !mask
    }
}

struct Complement;
impl BitOperation for Complement {
    #[inline(always)]
    fn apply(value: u64, mask: u64) -> u64 {
        value ^ mask
    }
}

/// Puts the bit into CF, all other flags stay.
#[inline(always)]
fn compute<O: BitOperation, T: Word>(flags: &mut Flags, value: u64, number: u64) -> u64 {
    let mask = 1 << (number & u64::from(T::BITS - 1));
    flags.set_carry(value & mask != 0);
    O::apply(value, mask)
}

#[inline(always)]
fn in_register<O: BitOperation, T: Word>(cpu: &mut Cpu, op: &Op, number: u64) -> Step {
    let value = cpu.get::<T>(op.dst);
    let result = compute::<O, T>(&mut cpu.flags, value, number);
    if O::WRITES {
        cpu.set::<T>(op.dst, result);
    }
    Ok(())
}

#[inline(always)]
fn in_memory<O: BitOperation, T: Word>(cpu: &mut Cpu, address: u64, number: u64) -> Step {
    if O::WRITES {
        return cpu.modify::<T>(address, |flags, value| compute::<O, T>(flags, value, number));
    }
    let value = cpu.read::<T>(address)?;
    compute::<O, T>(&mut cpu.flags, value, number);
    Ok(())
}

fn reg_reg<O: BitOperation, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_register::<O, T>(cpu, op, cpu.get::<T>(op.src))
}

fn reg_imm<O: BitOperation, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_register::<O, T>(cpu, op, op.imm)
}

fn mem_reg<O: BitOperation, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let number = T::sign_extend(cpu.get::<T>(op.src)).cast_signed();
    let words = number >> T::BITS.trailing_zeros();
    let bytes = words.wrapping_mul(size_of::<T>().cast_signed() as i64).cast_unsigned();
    in_memory::<O, T>(cpu, op.address(cpu).wrapping_add(bytes), number.cast_unsigned())
}

fn mem_imm<O: BitOperation, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_memory::<O, T>(cpu, op.address(cpu), op.imm)
}

fn operation<O: BitOperation>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegReg => reg_reg::<O, T>,
        Form::RegImm => reg_imm::<O, T>,
        Form::MemReg => mem_reg::<O, T>,
        Form::MemImm => mem_imm::<O, T>,
        Form::RegMem => return None,
    }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Bt => operation::<Test>(instruction, op),
        Mnemonic::Bts => operation::<Set>(instruction, op),
        Mnemonic::Btr => operation::<Reset>(instruction, op),
        Mnemonic::Btc => operation::<Complement>(instruction, op),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{RAX, RBX, RDI};
    use super::super::super::flags::{ARITHMETIC, CF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::{load, store};

    #[test]
    fn registers_wrap_the_bit_number() {
        for (code, result, carry) in [
            // bt rax, rbx
            (&[0x48, 0x0f, 0xa3, 0xd8][..], 0b1010, true),
            // bts eax, ebx
            (&[0x0f, 0xab, 0xd8], 0b1010, true),
            // btr ax, bx
            (&[0x66, 0x0f, 0xb3, 0xd8], 0b1000, true),
            // btc rax, 66
            (&[0x48, 0x0f, 0xba, 0xf8, 66], 0b1110, false),
            // bts rax, 63
            (&[0x48, 0x0f, 0xba, 0xe8, 63], 1 << 63 | 0b1010, false),
        ] {
            let cpu = run(code, |cpu| {
                cpu.regs[usize::from(RAX)] = 0b1010;
                cpu.regs[usize::from(RBX)] = 64 * 5 + 1;
                cpu.flags.set(ARITHMETIC & !CF);
            });
            assert_eq!((cpu.regs[usize::from(RAX)], cpu.flags.carry()), (result, carry), "{code:x?}");
            assert_eq!(cpu.flags.get() & ARITHMETIC & !CF, ARITHMETIC & !CF, "{code:x?}");
        }
    }

    #[test]
    fn bit_strings_reach_beyond_the_operand() {
        // Number of a bit counted from DATA, and the same with bts of each size.
        for number in [0i64, 7, 100, 4095 * 8 + 3, -1, -64, -65, -0x4000] {
            for (code, mask) in [
                (&[0x66, 0x0f, 0xab, 0x1f][..], 0xffff_ffff_ffff_0000u64),
                (&[0x0f, 0xab, 0x1f], 0xffff_ffff_0000_0000),
                (&[0x48, 0x0f, 0xab, 0x1f], 0),
            ] {
                // What lies in the register above the operand's size does not count.
                let register = if mask == 0 { number } else { number ^ mask.cast_signed() };
                let cpu = run(code, |cpu| {
                    cpu.regs[usize::from(RDI)] = DATA + 0x800;
                    cpu.regs[usize::from(RBX)] = register.cast_unsigned();
                });
                let byte = (DATA + 0x800).wrapping_add_signed(number >> 3);
                assert_eq!(load::<u8>(&cpu, byte), 1 << (number & 7), "{number} {code:x?}");
                assert!(!cpu.flags.carry());
            }
        }
    }

    #[test]
    fn an_immediate_stays_in_the_operand() {
        // lock btr dword [rdi], 33
        let cpu = run(&[0xf0, 0x0f, 0xba, 0x37, 33], |cpu| {
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, u64::MAX);
        });
        assert_eq!(load::<u64>(&cpu, DATA), u64::MAX - 2);
        assert!(cpu.flags.carry());
    }
}
