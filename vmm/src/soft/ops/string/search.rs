//! Strings that are only read: lods, scas, cmps, element by element.

use iced_x86::Instruction;

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::sized;
use super::super::super::cpu::{Cpu, RAX, RCX, RDI, RSI};
use super::super::super::step::{Step, Stop};
use super::super::super::word::Word;
use super::{CHUNK, advance, destination, is_repeated, repeat, size, source};

fn load_one<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(source(cpu, op))?;
    cpu.set::<T>(RAX, value);
    advance::<T>(cpu, RSI, 1);
    Ok(())
}

fn load_repeatedly<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    repeat::<T>(cpu, op, |cpu, op, _| load_one::<T>(cpu, op).map(|()| 1))
}

/// What is compared.
trait Comparison: 'static {
    /// Reads the two values.
    fn read<T: Word>(cpu: &mut Cpu, op: &Op) -> Step<(u64, u64)>;

    /// Goes on to the next element.
    fn go_on<T: Word>(cpu: &mut Cpu);
}

/// The accumulator with the destination.
struct Scan;
impl Comparison for Scan {
    #[inline(always)]
    fn read<T: Word>(cpu: &mut Cpu, _: &Op) -> Step<(u64, u64)> {
        let value = cpu.read::<T>(destination(cpu))?;
        Ok((cpu.get::<T>(RAX), value))
    }

    #[inline(always)]
    fn go_on<T: Word>(cpu: &mut Cpu) {
        advance::<T>(cpu, RDI, 1);
    }
}

/// The source with the destination.
struct Compare;
impl Comparison for Compare {
    #[inline(always)]
    fn read<T: Word>(cpu: &mut Cpu, op: &Op) -> Step<(u64, u64)> {
        let first = cpu.read::<T>(source(cpu, op))?;
        let second = cpu.read::<T>(destination(cpu))?;
        Ok((first, second))
    }

    #[inline(always)]
    fn go_on<T: Word>(cpu: &mut Cpu) {
        advance::<T>(cpu, RSI, 1);
        advance::<T>(cpu, RDI, 1);
    }
}

fn compare_one<C: Comparison, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = C::read::<T>(cpu, op)?;
    cpu.flags.subtract::<T>(a, b, a.wrapping_sub(b));
    C::go_on::<T>(cpu);
    Ok(())
}

/// Compares as long as the values are `EQUAL`, or differ. A fault leaves the flags as they were before the instruction
/// (Intel SDM volume 2, REP), so only the last comparison sets them.
fn compare_while<C: Comparison, T: Word, const EQUAL: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if cpu.regs[usize::from(RCX)] == 0 {
        return Ok(());
    }
    for _ in 0..CHUNK / size::<T>() {
        let (a, b) = C::read::<T>(cpu, op)?;
        C::go_on::<T>(cpu);
        let count = cpu.regs[usize::from(RCX)].wrapping_sub(1);
        cpu.regs[usize::from(RCX)] = count;
        if count == 0 || (a == b) != EQUAL {
            cpu.flags.subtract::<T>(a, b, a.wrapping_sub(b));
            return Ok(());
        }
        if !cpu.answered.is_empty() {
            break;
        }
    }
    Err(Stop::Again)
}

fn comparison<C: Comparison>(instruction: &Instruction, size: usize) -> Option<Handler> {
    let (while_equal, repeated) = (instruction.has_repe_prefix(), is_repeated(instruction));
    Some(sized!(size, T => match (repeated, while_equal) {
        (false, _) => compare_one::<C, T>,
        (true, true) => compare_while::<C, T, true>,
        (true, false) => compare_while::<C, T, false>,
    }))
}

pub(super) fn lods(instruction: &Instruction, size: usize) -> Option<Handler> {
    let repeated = is_repeated(instruction);
    Some(sized!(size, T => if repeated { load_repeatedly::<T> } else { load_one::<T> }))
}

pub(super) fn scas(instruction: &Instruction, size: usize) -> Option<Handler> {
    comparison::<Scan>(instruction, size)
}

pub(super) fn cmps(instruction: &Instruction, size: usize) -> Option<Handler> {
    comparison::<Compare>(instruction, size)
}
