//! Flags as such: clc, stc, cmc, cld, std, lahf, sahf, pushf, popf.

use iced_x86::{Code, Instruction};

use super::super::code::op::{Handler, Op};
use super::super::cpu::{Cpu, HIGH_BYTE, RAX, RSP};
use super::super::flags::{AC, AF, ARITHMETIC, CF, DF, ID, IF, IOPL, NT, OF, PF, RF, SF, TF, ZF};
use super::super::step::{Step, Stop};
use super::super::word::Word;

/// The register whose byte LAHF and SAHF work on.
const AH: u8 = RAX | HIGH_BYTE;
/// What LAHF and SAHF move.
const LOW_FLAGS: u64 = SF | ZF | AF | PF | CF;
/// What every ring may change by POPF.
const UNPRIVILEGED: u64 = ARITHMETIC | TF | DF | NT | AC | ID;

fn clear_carry(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_carry(false);
    Ok(())
}

fn set_carry(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_carry(true);
    Ok(())
}

fn complement_carry(cpu: &mut Cpu, _: &Op) -> Step {
    let carry = cpu.flags.carry();
    cpu.flags.set_carry(!carry);
    Ok(())
}

fn clear_direction(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_rest(DF, 0);
    Ok(())
}

fn set_direction(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_rest(DF, DF);
    Ok(())
}

fn load_ah(cpu: &mut Cpu, _: &Op) -> Step {
    let flags = cpu.flags.get();
    cpu.set::<u8>(AH, flags);
    Ok(())
}

fn store_ah(cpu: &mut Cpu, _: &Op) -> Step {
    let flags = cpu.get::<u8>(AH) & LOW_FLAGS | cpu.flags.get() & OF;
    cpu.flags.set_arithmetic(flags);
    Ok(())
}

fn push_flags<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let stack = cpu.regs[usize::from(RSP)].wrapping_sub(size_of::<T>() as u64);
    cpu.write::<T>(stack, cpu.flags.get() & !RF)?;
    cpu.regs[usize::from(RSP)] = stack;
    Ok(())
}

/// The flags that POPF may change: only the kernel has a say on IOPL, and who IOPL admits on IF.
fn changeable(cpu: &Cpu) -> u64 {
    match (cpu.user, cpu.has_io_privilege()) {
        (false, _) => UNPRIVILEGED | IF | IOPL,
        (true, true) => UNPRIVILEGED | IF,
        (true, false) => UNPRIVILEGED,
    }
}

fn pop_flags<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[usize::from(RSP)];
    let value = cpu.read::<T>(stack)?;
    cpu.regs[usize::from(RSP)] = stack.wrapping_add(size_of::<T>() as u64);
    let before = cpu.flags.rest();
    let mask = changeable(cpu) & T::MASK;
    cpu.flags.set_arithmetic(value);
    cpu.flags.set_rest(mask | RF, value & mask);
    // Interrupts may come in now, or single steps begin.
    if cpu.flags.rest() & !before & (IF | TF) != 0 {
        cpu.rip = op.next_rip(cpu);
        return Err(Stop::Done);
    }
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.code() {
        Code::Clc => clear_carry,
        Code::Stc => set_carry,
        Code::Cmc => complement_carry,
        Code::Cld => clear_direction,
        Code::Std => set_direction,
        Code::Lahf => load_ah,
        Code::Sahf => store_ah,
        Code::Pushfw => push_flags::<u16>,
        Code::Pushfq => push_flags::<u64>,
        Code::Popfw => pop_flags::<u16>,
        Code::Popfq => pop_flags::<u64>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::flags::FIXED;
    use super::super::super::testing::{CODE, STACK, interpreter, run};
    use super::super::testing::{load, store};
    use super::*;

    fn flags_after(code: &[u8], flags: u64) -> u64 {
        run(code, |cpu| cpu.flags.set(flags)).flags.get()
    }

    #[test]
    fn single_flags_change_alone() {
        let all = ARITHMETIC | DF | FIXED;
        for (code, before, after) in [
            (0xf8, all, all & !CF),
            (0xf9, FIXED, CF | FIXED),
            (0xf5, all, all & !CF),
            (0xf5, FIXED, CF | FIXED),
            (0xfc, all, all & !DF),
            (0xfd, FIXED, DF | FIXED),
        ] {
            assert_eq!(flags_after(&[code], before), after, "{code:#x}");
        }
    }

    #[test]
    fn ah_has_the_low_byte_without_the_overflow() {
        // lahf
        let cpu = run(&[0x9f], |cpu| cpu.flags.set(ARITHMETIC));
        assert_eq!(cpu.regs[usize::from(RAX)], (LOW_FLAGS | FIXED) << 8);
        // sahf
        let cpu = run(&[0x9e], |cpu| {
            cpu.regs[usize::from(RAX)] = (ZF | AF | 0x2a) << 8;
            cpu.flags.set(OF | CF | SF | DF);
        });
        assert_eq!(cpu.flags.get(), OF | DF | ZF | AF | FIXED);
    }

    #[test]
    fn flags_go_through_the_stack() {
        let flags = ARITHMETIC | DF | IF | IOPL | FIXED;
        // pushfq: RF is not pushed
        let cpu = run(&[0x9c], |cpu| cpu.flags.set(flags | RF));
        assert_eq!(cpu.regs[usize::from(RSP)], STACK - 8);
        assert_eq!(load::<u64>(&cpu, STACK - 8), flags);
        // popfq; the upper bits and reserved ones are ignored
        let cpu = run(&[0x9d], |cpu| {
            cpu.regs[usize::from(RSP)] = STACK - 8;
            store(cpu, STACK - 8, !(TF | RF));
        });
        assert_eq!(cpu.regs[usize::from(RSP)], STACK);
        assert_eq!(cpu.flags.get(), flags | NT | AC | ID);
    }

    /// The flags after `popfq` of `popped` over `before`, and what it comes to.
    fn popped(user: bool, before: u64, popped: u64) -> (u64, Step) {
        let mut interpreter = interpreter(&[0x9d]);
        let cpu = &mut interpreter.cpu;
        cpu.user = user;
        cpu.flags.set(before);
        cpu.regs[usize::from(RSP)] = STACK - 8;
        store(cpu, STACK - 8, popped);
        let step = interpreter.step();
        assert_eq!(interpreter.cpu.rip, CODE + 1);
        (interpreter.cpu.flags.get(), step)
    }

    #[test]
    fn ring_3_changes_no_privileged_flags() {
        assert_eq!(popped(true, IF, IOPL | CF), (IF | CF | FIXED, Ok(())));
        assert_eq!(popped(true, 0, IF), (FIXED, Ok(())));
        // With IOPL 3 it may change IF, but not IOPL.
        assert_eq!(popped(true, IOPL | IF, 0), (IOPL | FIXED, Ok(())));
    }

    #[test]
    fn enabling_interrupts_lets_them_in_at_once() {
        assert_eq!(popped(false, 0, IF), (IF | FIXED, Err(Stop::Done)));
        assert_eq!(popped(false, IF, IF), (IF | FIXED, Ok(())));
        assert_eq!(popped(false, IF, 0), (FIXED, Ok(())));
    }

    #[test]
    fn a_16_bit_pop_leaves_the_upper_flags() {
        // popfw
        let cpu = run(&[0x66, 0x9d], |cpu| cpu.flags.set(AC | ID | CF));
        assert_eq!(cpu.flags.get(), AC | ID | FIXED);
        assert_eq!(cpu.regs[usize::from(RSP)], STACK + 2);
    }
}
