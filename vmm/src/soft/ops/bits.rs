//! Counting and moving bits: bsf, bsr, tzcnt, lzcnt, popcnt, bswap, movbe, crc32.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::Cpu;
use super::super::step::Step;
use super::super::word::Word;

/// An operation from a register or memory to a register.
trait Scan: 'static {
    /// Sets the flags and `op.dst` from the operand `value`.
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64);
}

struct ScanForward;
impl Scan for ScanForward {
    #[inline(always)]
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
        cpu.flags.set_zero(value == 0);
        // Zero has no such bit; CPUs leave the register as it was.
        if value != 0 {
            cpu.set::<T>(op.dst, value.trailing_zeros().into());
        }
    }
}

struct ScanReverse;
impl Scan for ScanReverse {
    #[inline(always)]
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
        cpu.flags.set_zero(value == 0);
        if value != 0 {
            cpu.set::<T>(op.dst, value.ilog2().into());
        }
    }
}

/// CF says that the operand was zero, ZF that the result is.
#[inline(always)]
fn set_count<T: Word>(cpu: &mut Cpu, op: &Op, count: u32) {
    cpu.flags.set_carry(count == T::BITS);
    cpu.flags.set_zero(count == 0);
    cpu.set::<T>(op.dst, count.into());
}

struct TrailingZeros;
impl Scan for TrailingZeros {
    #[inline(always)]
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
        set_count::<T>(cpu, op, value.trailing_zeros().min(T::BITS));
    }
}

struct LeadingZeros;
impl Scan for LeadingZeros {
    #[inline(always)]
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
        set_count::<T>(cpu, op, value.leading_zeros() - (64 - T::BITS));
    }
}

struct Population;
impl Scan for Population {
    #[inline(always)]
    fn finish<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
        cpu.flags.set_arithmetic(0);
        cpu.flags.set_zero(value == 0);
        cpu.set::<T>(op.dst, value.count_ones().into());
    }
}

fn scan_reg<S: Scan, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<T>(op.src);
    S::finish::<T>(cpu, op, value);
    Ok(())
}

fn scan_mem<S: Scan, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    S::finish::<T>(cpu, op, value);
    Ok(())
}

fn scan<S: Scan>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegReg => scan_reg::<S, T>,
        Form::RegMem => scan_mem::<S, T>,
        _ => return None,
    }))
}

/// The bytes of `value` in the other order.
#[inline(always)]
fn swapped<T: Word>(value: u64) -> u64 {
    value.swap_bytes() >> (64 - T::BITS)
}

fn bswap_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    // Undefined for 16 bits: CPUs make it zero.
    let value = if T::BITS == 16 { 0 } else { swapped::<T>(cpu.get::<T>(op.dst)) };
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn bswap(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    operands::dst(instruction, 0, op)?;
    Some(sized!(operands::size(instruction, 0), T => bswap_reg::<T>))
}

fn movbe_load<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    cpu.set::<T>(op.dst, swapped::<T>(value));
    Ok(())
}

fn movbe_store<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = swapped::<T>(cpu.get::<T>(op.src));
    cpu.write::<T>(op.address(cpu), value)
}

fn movbe(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegMem => movbe_load::<T>,
        Form::MemReg => movbe_store::<T>,
        _ => return None,
    }))
}

/// The polynomial of CRC-32C, its lowest power in the highest bit.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// What one byte does to the checksum.
const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { CASTAGNOLI } else { 0 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

fn add_to_crc<T: Word>(cpu: &mut Cpu, op: &Op, value: u64) {
    let start = u32::truncate(cpu.get::<u32>(op.dst));
    let bytes = value.to_le_bytes().into_iter().take(size_of::<T>());
    let crc =
        bytes.fold(start, |crc, byte| crc >> 8 ^ CRC_OF_BYTE[usize::from(u8::truncate(crc.into()) ^ byte)]);
    cpu.set::<u64>(op.dst, crc.into());
}

fn crc_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<T>(op.src);
    add_to_crc::<T>(cpu, op, value);
    Ok(())
}

fn crc_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    add_to_crc::<T>(cpu, op, value);
    Ok(())
}

fn crc32(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    operands::two(instruction, op)?;
    let in_memory = instruction.op_kind(1) == OpKind::Memory;
    Some(sized!(operands::size(instruction, 1), T => if in_memory { crc_mem::<T> } else { crc_reg::<T> }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Bsf => scan::<ScanForward>(instruction, op),
        Mnemonic::Bsr => scan::<ScanReverse>(instruction, op),
        Mnemonic::Tzcnt => scan::<TrailingZeros>(instruction, op),
        Mnemonic::Lzcnt => scan::<LeadingZeros>(instruction, op),
        Mnemonic::Popcnt => scan::<Population>(instruction, op),
        Mnemonic::Bswap => bswap(instruction, op),
        Mnemonic::Movbe => movbe(instruction, op),
        Mnemonic::Crc32 => crc32(instruction, op),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{RAX, RBX, RDI};
    use super::super::super::flags::{ARITHMETIC, CF, ZF};
    use super::super::super::testing::{DATA, run};
    use super::super::testing::{load, store};

    /// RAX and the flags after `code`, which has `operand` in RBX and at RDI.
    fn after(code: &[u8], rax: u64, operand: u64) -> (u64, u64) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = rax;
            cpu.regs[usize::from(RBX)] = operand;
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, operand);
        });
        (cpu.regs[usize::from(RAX)], cpu.flags.get() & ARITHMETIC)
    }

    #[test]
    fn bits_are_found_and_counted() {
        let value = 0x0001_0000_0300_4000;
        for (code, operand, rax, flags) in [
            // bsf rax, rbx; bsr rax, [rdi]; bsr ax, bx
            (&[0x48, 0x0f, 0xbc, 0xc3][..], value, 14, 0),
            (&[0x48, 0x0f, 0xbd, 0x07], value, 48, 0),
            (&[0x66, 0x0f, 0xbd, 0xc3], value, 0xffff_ffff_ffff_000e, 0),
            // tzcnt eax, ebx; tzcnt ax, [rdi]; lzcnt rax, rbx; lzcnt ax, bx
            (&[0xf3, 0x0f, 0xbc, 0xc3], 1, 0, ZF),
            (&[0x66, 0xf3, 0x0f, 0xbc, 0x07], 1 << 16, 0xffff_ffff_ffff_0010, CF),
            (&[0xf3, 0x48, 0x0f, 0xbd, 0xc3], value, 15, 0),
            (&[0x66, 0xf3, 0x0f, 0xbd, 0xc3], 0xffff_8000, 0xffff_ffff_ffff_0000, ZF),
            (&[0xf3, 0x0f, 0xbd, 0xc3], 1 << 32, 32, CF),
            // popcnt eax, ebx; popcnt rax, [rdi]
            (&[0xf3, 0x0f, 0xb8, 0xc3], u64::MAX, 32, 0),
            (&[0xf3, 0x48, 0x0f, 0xb8, 0x07], 0, 0, ZF),
        ] {
            assert_eq!(after(code, u64::MAX, operand), (rax, flags), "{code:x?}");
        }
    }

    #[test]
    fn scanning_zero_leaves_the_register() {
        for code in [[0x48, 0x0f, 0xbc, 0xc3], [0x48, 0x0f, 0xbd, 0xc3]] {
            assert_eq!(after(&code, 77, 0), (77, ZF));
        }
    }

    #[test]
    fn bytes_are_swapped() {
        let value = 0x0102_0304_0506_0708;
        for (code, rax) in [
            // bswap rax; bswap eax
            (&[0x48, 0x0f, 0xc8][..], 0x0807_0605_0403_0201),
            (&[0x0f, 0xc8], 0x0807_0605),
            // movbe eax, [rdi]; movbe ax, [rdi]
            (&[0x0f, 0x38, 0xf0, 0x07], 0x0807_0605),
            (&[0x66, 0x0f, 0x38, 0xf0, 0x07], 0x0102_0304_0506_0807),
        ] {
            assert_eq!(after(code, value, value).0, rax, "{code:x?}");
        }
        // movbe [rdi], rbx
        let cpu = run(&[0x48, 0x0f, 0x38, 0xf1, 0x1f], |cpu| {
            (cpu.regs[usize::from(RBX)], cpu.regs[usize::from(RDI)]) = (value, DATA);
        });
        assert_eq!(load::<u64>(&cpu, DATA), value.swap_bytes());
    }

    #[test]
    fn the_checksum_is_that_of_iscsi() {
        // RFC 3720, appendix B.4: 32 bytes of zeros give 0x8a9136aa; here in steps of 8, 4, 2 and 1 bytes.
        // crc32 rax, [rdi] three times; crc32 eax, dword [rdi]; crc32 eax, bx; crc32 eax, bl; crc32 eax, byte [rdi]
        let wide = [0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x07];
        let mut code = wide.repeat(3);
        code.extend([0xf2, 0x0f, 0x38, 0xf1, 0x07]);
        code.extend([0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc3]);
        code.extend([0xf2, 0x0f, 0x38, 0xf0, 0xc3]);
        code.extend([0xf2, 0x0f, 0x38, 0xf0, 0x07]);
        assert_eq!(after(&code, 0xffff_ffff, 0).0, u64::from(!0x8a91_36aau32));
        // The upper half of the register does not count, and is cleared.
        assert_eq!(after(&wide, 0x1234_5678_0000_0000, 0).0, 0);
    }
}
