//! Bit manipulation with three operands, BMI1 and BMI2: andn, bextr, blsi, blsmsk, blsr, bzhi, mulx, pdep, pext, rorx,
//! sarx, shlx, shrx. String functions of C libraries use them along with AVX2.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RDX};
use super::super::step::Step;
use super::super::word::Word;

/// What an instruction makes of its operand in a register or in memory. `op.dst` is the result's register, `op.imm` the
/// number of the other operand's register, or a count.
type Compute = fn(&mut Cpu, &Op, u64);

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it is the number of a register")]
const fn third(op: &Op) -> u8 {
    op.imm as u8
}

fn andn<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let result = !cpu.get::<T>(third(op)) & value;
    cpu.flags.logic::<T>(result);
    cpu.set::<T>(op.dst, result);
}

/// From the bit and as many bits as the two low bytes of the other operand say.
fn bextr<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let control = cpu.get::<T>(third(op));
    let (start, len) = (low_byte(control), low_byte(control >> 8));
    let result = low_bits(value.checked_shr(start).unwrap_or(0), len);
    cpu.flags.logic::<T>(result);
    cpu.set::<T>(op.dst, result);
}

fn low_byte(value: u64) -> u32 {
    u32::from(u8::truncate(value))
}

/// The low `count` bits of `value`.
fn low_bits(value: u64, count: u32) -> u64 {
    value & !u64::MAX.checked_shl(count).unwrap_or(0)
}

fn bzhi<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let index = low_byte(cpu.get::<T>(third(op)));
    let result = low_bits(value, index);
    cpu.flags.logic::<T>(result);
    cpu.flags.set_carry(index >= T::BITS);
    cpu.set::<T>(op.dst, result);
}

/// Sets the result of an instruction that looks for the lowest bit set, and CF.
#[inline(always)]
fn finish<T: Word>(cpu: &mut Cpu, op: &Op, result: u64, carry: bool) {
    cpu.flags.logic::<T>(result);
    cpu.flags.set_carry(carry);
    cpu.set::<T>(op.dst, result);
}

fn blsi<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    finish::<T>(cpu, op, value & value.wrapping_neg(), value != 0);
}

fn blsmsk<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    finish::<T>(cpu, op, value ^ value.wrapping_sub(1), value == 0);
}

fn blsr<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    finish::<T>(cpu, op, value & value.wrapping_sub(1), value == 0);
}

/// The high half goes to the first operand, also if both are the same register.
fn mulx<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let product = u128::from(cpu.get::<T>(RDX)) * u128::from(value);
    let half = |shift| u64::try_from(product >> shift & u128::from(T::MASK)).unwrap_or_default();
    cpu.set::<T>(third(op), half(0));
    cpu.set::<T>(op.dst, half(T::BITS));
}

/// Spreads the low bits of the other operand over the places of the bits in `mask`.
fn pdep<T: Word>(cpu: &mut Cpu, op: &Op, mut mask: u64) {
    let mut source = cpu.get::<T>(third(op));
    let mut result = 0;
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        if source & 1 != 0 {
            result |= lowest;
        }
        source >>= 1;
        mask ^= lowest;
    }
    cpu.set::<T>(op.dst, result);
}

/// Collects the bits of the other operand that are in the places of the bits in `mask`.
fn pext<T: Word>(cpu: &mut Cpu, op: &Op, mut mask: u64) {
    let source = cpu.get::<T>(third(op));
    let (mut result, mut to) = (0, 1u64);
    while mask != 0 {
        let lowest = mask & mask.wrapping_neg();
        if source & lowest != 0 {
            result |= to;
        }
        to <<= 1;
        mask ^= lowest;
    }
    cpu.set::<T>(op.dst, result);
}

fn rorx<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let count = low_byte(op.imm) % T::BITS;
    let left = value.checked_shl(T::BITS - count).unwrap_or(0);
    cpu.set::<T>(op.dst, value >> count | left);
}

/// The count of a shift, masked.
#[inline(always)]
fn count<T: Word>(cpu: &Cpu, op: &Op) -> u32 {
    low_byte(cpu.get::<T>(third(op))) % T::BITS
}

fn sarx<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let result = T::sign_extend(value).cast_signed() >> count::<T>(cpu, op);
    cpu.set::<T>(op.dst, result.cast_unsigned());
}

fn shlx<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let result = value << count::<T>(cpu, op);
    cpu.set::<T>(op.dst, result);
}

fn shrx<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let result = value >> count::<T>(cpu, op);
    cpu.set::<T>(op.dst, result);
}

const fn computation<T: Word>(mnemonic: Mnemonic) -> Option<Compute> {
    Some(match mnemonic {
        Mnemonic::Andn => andn::<T>,
        Mnemonic::Bextr => bextr::<T>,
        Mnemonic::Blsi => blsi::<T>,
        Mnemonic::Blsmsk => blsmsk::<T>,
        Mnemonic::Blsr => blsr::<T>,
        Mnemonic::Bzhi => bzhi::<T>,
        Mnemonic::Mulx => mulx::<T>,
        Mnemonic::Pdep => pdep::<T>,
        Mnemonic::Pext => pext::<T>,
        Mnemonic::Rorx => rorx::<T>,
        Mnemonic::Sarx => sarx::<T>,
        Mnemonic::Shlx => shlx::<T>,
        Mnemonic::Shrx => shrx::<T>,
        _ => return None,
    })
}

/// The handler for a mnemonic is an instance over this number, since a function pointer cannot be a parameter.
macro_rules! handlers {
    ($mnemonic:expr, $memory:expr, $wide:expr, $($name:ident)*) => {
        match $mnemonic {
            $(Mnemonic::$name => {
                fn handler<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
                    let value = if MEMORY { cpu.read::<T>(op.address(cpu))? } else { cpu.get::<T>(op.src) };
                    if let Some(compute) = const { computation::<T>(Mnemonic::$name) } {
                        compute(cpu, op, value);
                    }
                    Ok(())
                }
                match ($wide, $memory) {
                    (false, false) => handler::<u32, false> as Handler,
                    (false, true) => handler::<u32, true>,
                    (true, false) => handler::<u64, false>,
                    (true, true) => handler::<u64, true>,
                }
            })*
            _ => return None,
        }
    };
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let mnemonic = instruction.mnemonic();
    computation::<u64>(mnemonic)?;
    let operand = match mnemonic {
        Mnemonic::Andn | Mnemonic::Mulx | Mnemonic::Pdep | Mnemonic::Pext => 2,
        _ => 1,
    };
    operands::dst(instruction, 0, op)?;
    let memory = instruction.op_kind(operand) == OpKind::Memory;
    if memory {
        operands::memory(instruction, op)?;
    } else {
        operands::src(instruction, operand, op)?;
    }
    if instruction.op_count() == 3 {
        let other = 3 - operand;
        op.imm = if mnemonic == Mnemonic::Rorx {
            instruction.immediate(other)
        } else {
            operands::register(instruction.op_register(other))?.into()
        };
    }
    let wide = operands::size(instruction, 0) == 8;
    Some(handlers!(mnemonic, memory, wide,
        Andn Bextr Blsi Blsmsk Blsr Bzhi Mulx Pdep Pext Rorx Sarx Shlx Shrx))
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{RAX, RBX, RCX, RDI};
    use super::super::super::flags::{ARITHMETIC, CF, SF, ZF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::store;

    /// RAX and the flags after `code`, which has `operand` in RBX and at RDI, and `other` in RCX.
    fn after(code: &[u8], operand: u64, other: u64) -> (u64, u64) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = u64::MAX;
            cpu.regs[usize::from(RBX)] = operand;
            cpu.regs[usize::from(RCX)] = other;
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, operand);
        });
        (cpu.regs[usize::from(RAX)], cpu.flags.get() & ARITHMETIC & (CF | ZF | SF))
    }

    #[test]
    fn results_are_those_of_the_manual() {
        for (name, code, operand, other, expected) in [
            ("andn rax, rcx, rbx", &[0xc4, 0xe2, 0xf0, 0xf2, 0xc3][..], 0xff, 0xf0, (0xf, 0)),
            ("bextr rax, rbx, rcx", &[0xc4, 0xe2, 0xf0, 0xf7, 0xc3], 0xabcd_ef12, 0x1008, (0xcdef, 0)),
            ("blsr eax, [rdi]", &[0xc4, 0xe2, 0x78, 0xf3, 0x0f], 0x8000_0000, 0, (0, ZF)),
            ("blsi eax, ebx", &[0xc4, 0xe2, 0x78, 0xf3, 0xdb], 0, 0, (0, ZF)),
            ("blsmsk rax, rbx", &[0xc4, 0xe2, 0xf8, 0xf3, 0xd3], 0, 0, (u64::MAX, SF | CF)),
            ("bzhi rax, rbx, rcx", &[0xc4, 0xe2, 0xf0, 0xf5, 0xc3], u64::MAX, 12, (0xfff, 0)),
            ("bzhi eax, ebx, ecx", &[0xc4, 0xe2, 0x70, 0xf5, 0xc3], 1, 32, (1, CF)),
            ("shlx rax, rbx, rcx", &[0xc4, 0xe2, 0xf1, 0xf7, 0xc3], 3, 65, (6, 0)),
            ("sarx eax, ebx, ecx", &[0xc4, 0xe2, 0x72, 0xf7, 0xc3], 0x8000_0000, 31, (0xffff_ffff, 0)),
            ("rorx eax, ebx, 4", &[0xc4, 0xe3, 0x7b, 0xf0, 0xc3, 4], 0x1234_5678, 0, (0x8123_4567, 0)),
            ("pdep rax, rcx, [rdi]", &[0xc4, 0xe2, 0xf3, 0xf5, 0x07], 0xf0f0, 0b1001_0110, (0x9060, 0)),
            ("pext rax, rcx, rbx", &[0xc4, 0xe2, 0xf2, 0xf5, 0xc3], 0xf0f0, 0x9060, (0b1001_0110, 0)),
        ] {
            assert_eq!(after(code, operand, other), expected, "{name}");
        }
    }

    #[test]
    fn the_high_half_of_a_product_wins() {
        // mov edx, 2; mulx rax, rcx, rbx; mulx rax, rax, rbx
        for code in [[0xc4, 0xe2, 0xf3, 0xf6, 0xc3], [0xc4, 0xe2, 0xfb, 0xf6, 0xc3]] {
            let code = [&[0xba, 2, 0, 0, 0][..], &code].concat();
            assert_eq!(after(&code, 3 << 63 | 5, 0), (1, 0));
        }
    }
}
