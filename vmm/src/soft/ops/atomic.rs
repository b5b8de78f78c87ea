//! Exchanging with memory: xchg, xadd, cmpxchg, cmpxchg8b, cmpxchg16b.
//!
//! There is one CPU, and devices do not lock: a read and a write are as good as an atomic access. That also goes for the
//! lock prefix of other instructions, which the decoder accepts only where it is allowed.

use iced_x86::{Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, RAX, RBX, RCX, RDX};
use super::super::mmu::tlb::Kind;
use super::super::step::Step;
use super::super::word::Word;

fn exchange<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let new = cpu.get::<T>(op.src);
    let mut old = 0;
    cpu.modify::<T>(op.address(cpu), |_, value| {
        old = value;
        new
    })?;
    cpu.set::<T>(op.src, old);
    Ok(())
}

fn xchg(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match operands::two(instruction, op)? {
        Form::MemReg => Some(sized!(operands::size(instruction, 0), T => exchange::<T>)),
        _ => None,
    }
}

fn add_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.get::<T>(op.dst), cpu.get::<T>(op.src));
    let sum = a.wrapping_add(b);
    cpu.flags.add::<T>(a, b, sum);
    cpu.set::<T>(op.src, a);
    // Last, for when both are the same register.
    cpu.set::<T>(op.dst, sum);
    Ok(())
}

fn add_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.get::<T>(op.src);
    let mut old = 0;
    cpu.modify::<T>(op.address(cpu), |flags, a| {
        old = a;
        let sum = a.wrapping_add(b);
        flags.add::<T>(a, b, sum);
        sum
    })?;
    cpu.set::<T>(op.src, old);
    Ok(())
}

fn xadd(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegReg => add_reg::<T>,
        Form::MemReg => add_mem::<T>,
        _ => return None,
    }))
}

fn compare_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (expected, value, new) = (cpu.get::<T>(RAX), cpu.get::<T>(op.dst), cpu.get::<T>(op.src));
    cpu.flags.subtract::<T>(expected, value, expected.wrapping_sub(value));
    if value == expected {
        cpu.set::<T>(op.dst, new);
    } else {
        cpu.set::<T>(RAX, value);
    }
    Ok(())
}

fn compare_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (expected, new) = (cpu.get::<T>(RAX), cpu.get::<T>(op.src));
    let mut found = 0;
    // Memory is written in any case, with what it has if the comparison fails.
    cpu.modify::<T>(op.address(cpu), |flags, value| {
        found = value;
        flags.subtract::<T>(expected, value, expected.wrapping_sub(value));
        if value == expected { new } else { value }
    })?;
    if found != expected {
        cpu.set::<T>(RAX, found);
    }
    Ok(())
}

fn cmpxchg(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let form = operands::two(instruction, op)?;
    Some(sized!(operands::size(instruction, 0), T => match form {
        Form::RegReg => compare_reg::<T>,
        Form::MemReg => compare_mem::<T>,
        _ => return None,
    }))
}

fn compare_8_bytes(cpu: &mut Cpu, op: &Op) -> Step {
    let pair = |high: u64, low: u64| high << 32 | low;
    let expected = pair(cpu.get::<u32>(RDX), cpu.get::<u32>(RAX));
    let new = pair(cpu.get::<u32>(RCX), cpu.get::<u32>(RBX));
    let mut found = 0;
    cpu.modify::<u64>(op.address(cpu), |flags, value| {
        found = value;
        flags.set_zero(value == expected);
        if value == expected { new } else { value }
    })?;
    if found != expected {
        cpu.set::<u32>(RAX, found);
        cpu.set::<u32>(RDX, found >> 32);
    }
    Ok(())
}

fn compare_16_bytes(cpu: &mut Cpu, op: &Op) -> Step {
    let address = op.address(cpu);
    if !address.is_multiple_of(16) {
        return cpu.protection();
    }
    // The fault of an address that cannot be written is one of a write. Aligned, it is one page.
    cpu.locate(address, Kind::Write, cpu.user)?;
    let found = (cpu.read::<u64>(address)?, cpu.read::<u64>(address.wrapping_add(8))?);
    let equal = found == (cpu.get::<u64>(RAX), cpu.get::<u64>(RDX));
    let (low, high) = if equal { (cpu.get::<u64>(RBX), cpu.get::<u64>(RCX)) } else { found };
    cpu.write::<u64>(address, low)?;
    cpu.write::<u64>(address.wrapping_add(8), high)?;
    cpu.flags.set_zero(equal);
    if !equal {
        cpu.set::<u64>(RAX, found.0);
        cpu.set::<u64>(RDX, found.1);
    }
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Xchg => xchg(instruction, op),
        Mnemonic::Xadd => xadd(instruction, op),
        Mnemonic::Cmpxchg => cmpxchg(instruction, op),
        Mnemonic::Cmpxchg8b => operands::memory(instruction, op).map(|()| compare_8_bytes as Handler),
        Mnemonic::Cmpxchg16b => operands::memory(instruction, op).map(|()| compare_16_bytes as Handler),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::RDI;
    use super::super::super::flags::{ARITHMETIC, CF, FIXED, ZF};
    use super::super::super::step::{Exception, Stop};
    use super::super::super::testing::{DATA, TABLES, interpreter, run};
    use super::super::testing::{load, store};
    use super::*;

    const OLD: u64 = 0x1111_2222_3333_4444;
    const NEW: u64 = 0xaaaa_bbbb_cccc_dddd;

    /// After `code` with RAX as given, OLD at RDI, NEW in RBX: RAX, RBX, memory, flags.
    fn after(code: &[u8], rax: u64) -> (u64, u64, u64, u64) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = rax;
            cpu.regs[usize::from(RBX)] = NEW;
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, OLD);
        });
        let (rax, rbx) = (cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RBX)]);
        (rax, rbx, load(&cpu, DATA), cpu.flags.get() & ARITHMETIC)
    }

    #[test]
    fn registers_and_memory_change_places() {
        // xchg [rdi], rbx; xchg [rdi], bh
        assert_eq!(after(&[0x48, 0x87, 0x1f], 0), (0, OLD, NEW, 0));
        assert_eq!(after(&[0x86, 0x3f], 0), (0, 0xaaaa_bbbb_cccc_44dd, 0x1111_2222_3333_44dd, 0));
        // xchg [rdi], ebx
        assert_eq!(after(&[0x87, 0x1f], 0), (0, 0x3333_4444, 0x1111_2222_cccc_dddd, 0));
    }

    #[test]
    fn exchange_and_add_returns_the_old_value() {
        // lock xadd [rdi], ebx: it carries
        let (_, rbx, memory, flags) = after(&[0xf0, 0x0f, 0xc1, 0x1f], 0);
        assert_eq!((rbx, memory), (0x3333_4444, 0x1111_2222_0000_2221));
        assert_eq!(flags & (CF | ZF), CF);
        // xadd rbx, rbx doubles
        assert_eq!(after(&[0x48, 0x0f, 0xc1, 0xdb], 0).1, NEW.wrapping_mul(2));
        // xadd bl, al
        assert_eq!(after(&[0x0f, 0xc0, 0xc3], 0x10), (0xdd, NEW + 0x10, OLD, after(&[0x04, 0xdd], 0x10).3));
    }

    #[test]
    fn compare_and_exchange_writes_only_what_was_expected() {
        // lock cmpxchg [rdi], rbx
        let code = [0xf0, 0x48, 0x0f, 0xb1, 0x1f];
        let (rax, rbx, memory, flags) = after(&code, OLD);
        assert_eq!((rax, rbx, memory, flags & ZF), (OLD, NEW, NEW, ZF));
        let (rax, rbx, memory, flags) = after(&code, 0);
        assert_eq!((rax, rbx, memory, flags & (ZF | CF)), (OLD, NEW, OLD, CF));
        // cmpxchg [rdi], bl; the rest of RAX does not count, and stays
        assert_eq!(after(&[0x0f, 0xb0, 0x1f], 0xff44).2, OLD & !0xff | 0xdd);
        assert_eq!(after(&[0x0f, 0xb0, 0x1f], 0xff45).0, 0xff44);
        // cmpxchg ebx, edi when EBX is EAX, and when not
        assert_eq!(after(&[0x0f, 0xb1, 0xfb], 0xcccc_dddd).1, DATA);
        assert_eq!(after(&[0x0f, 0xb1, 0xfb], 1).0, 0xcccc_dddd);
    }

    /// After `code` with RDX:RAX as given and OLD, !OLD at RDI.
    fn after_wide(code: &[u8], rdx: u64, rax: u64) -> (u64, u64, u64, u64, bool) {
        let cpu = run(code, |cpu| {
            cpu.regs[usize::from(RAX)] = rax;
            cpu.regs[usize::from(RDX)] = rdx;
            cpu.regs[usize::from(RBX)] = NEW;
            cpu.regs[usize::from(RCX)] = 7;
            cpu.regs[usize::from(RDI)] = DATA;
            store(cpu, DATA, OLD);
            store(cpu, DATA + 8, !OLD);
            cpu.flags.set(ARITHMETIC & !ZF);
        });
        assert_eq!(cpu.flags.get() | ZF, ARITHMETIC | FIXED);
        let (rdx, rax) = (cpu.regs[usize::from(RDX)], cpu.regs[usize::from(RAX)]);
        (rdx, rax, load(&cpu, DATA), load(&cpu, DATA + 8), cpu.flags.zero())
    }

    #[test]
    fn pairs_of_registers_compare_twice_the_size() {
        // lock cmpxchg8b [rdi]
        let code = [0xf0, 0x0f, 0xc7, 0x0f];
        let upper = 5 << 32;
        let expected = (upper | 0x1111_2222, upper | 0x3333_4444, 0x7_cccc_dddd, !OLD, true);
        assert_eq!(after_wide(&code, upper | 0x1111_2222, upper | 0x3333_4444), expected);
        assert_eq!(after_wide(&code, 0, 0), (0x1111_2222, 0x3333_4444, OLD, !OLD, false));
        // lock cmpxchg16b [rdi]
        let code = [0xf0, 0x48, 0x0f, 0xc7, 0x0f];
        assert_eq!(after_wide(&code, !OLD, OLD), (!OLD, OLD, NEW, 7, true));
        assert_eq!(after_wide(&code, !OLD, 0), (!OLD, OLD, OLD, !OLD, false));
    }

    #[test]
    fn sixteen_bytes_must_be_aligned() {
        let mut interpreter = interpreter(&[0x48, 0x0f, 0xc7, 0x0f]);
        interpreter.cpu.regs[usize::from(RDI)] = DATA + 8;
        assert_eq!(interpreter.step(), Err(Stop::Fault));
        assert_eq!(interpreter.cpu.exception, Some(Exception::general_protection(0)));
    }

    #[test]
    fn what_cannot_be_written_faults_as_a_write_and_changes_nothing() {
        // xchg [rdi], rbx; xadd [rdi], rbx; cmpxchg [rdi], rbx; cmpxchg8b [rdi]; cmpxchg16b [rdi]
        for code in [
            &[0x48, 0x87, 0x1f][..],
            &[0x48, 0x0f, 0xc1, 0x1f],
            &[0x48, 0x0f, 0xb1, 0x1f],
            &[0x0f, 0xc7, 0x0f],
            &[0x48, 0x0f, 0xc7, 0x0f],
        ] {
            let mut interpreter = interpreter(code);
            let cpu = &mut interpreter.cpu;
            cpu.regs[usize::from(RBX)] = NEW;
            cpu.regs[usize::from(RDI)] = DATA;
            cpu.flags.set(ARITHMETIC);
            store(cpu, DATA, OLD);
            // Present, for ring 3, not writable.
            store(cpu, TABLES + 0x3000 + (DATA >> 12) * 8, DATA | 5);
            let before = cpu.regs;
            assert_eq!(interpreter.step(), Err(Stop::Fault));
            let cpu = &interpreter.cpu;
            assert_eq!(cpu.exception, Some(Exception::page_fault(DATA, 3)), "{code:x?}");
            assert_eq!((cpu.regs, cpu.flags.get()), (before, ARITHMETIC | FIXED), "{code:x?}");
            assert_eq!(load::<u64>(cpu, DATA), OLD);
        }
    }
}
