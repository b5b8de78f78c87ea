//! Strings that are written: movs, stos. What lies within pages of RAM is one copy or fill of the host.

use iced_x86::Instruction;

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::sized;
use super::super::super::cpu::{Cpu, RAX, RDI, RSI};
use super::super::super::mmu::Place;
use super::super::super::mmu::tlb::Kind;
use super::super::super::ram::Ram;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::{advance, destination, elements_in_page, goes_backwards, is_repeated, repeat, source};

/// Copies `elements` of size `T`, the first one at `from`, as if one after the other.
fn copy<T: Word>(ram: &Ram, from: usize, to: usize, elements: usize, backwards: bool) {
    let size = size_of::<T>();
    let rest = (elements - 1) * size;
    // Something is read that was written before: the string repeats itself.
    let repeats =
        if backwards { to < from && from - to < rest + size } else { from < to && to - from < rest + size };
    if repeats {
        for done in (0..=rest).step_by(size) {
            let (from, to) = if backwards { (from - done, to - done) } else { (from + done, to + done) };
            ram.store(to, ram.load::<T>(from));
        }
    } else if backwards {
        ram.copy(from - rest, to - rest, rest + size);
    } else {
        ram.copy(from, to, rest + size);
    }
}

/// Fills `elements` of size `T`, of which the lowest one is at `at`.
fn fill<T: Word>(ram: &Ram, at: usize, elements: usize, value: u64) {
    let size = size_of::<T>();
    let end = at + elements * size;
    let byte = u8::truncate(value);
    if value == u64::from_le_bytes([byte; 8]) & T::MASK {
        return ram.fill(at..end, byte);
    }
    for at in (at..end).step_by(size) {
        ram.store(at, T::truncate(value));
    }
}

fn move_one<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(source(cpu, op))?;
    cpu.write::<T>(destination(cpu), value)?;
    advance::<T>(cpu, RSI, 1);
    advance::<T>(cpu, RDI, 1);
    Ok(())
}

/// Moves up to `most` elements, those that lie in the same pages as the first, and says how many.
fn move_some<T: Word>(cpu: &mut Cpu, op: &Op, most: u64) -> Step<u64> {
    let (from, to, backwards) = (source(cpu, op), destination(cpu), goes_backwards(cpu));
    let run = most.min(elements_in_page::<T>(from, backwards)).min(elements_in_page::<T>(to, backwards));
    if let Ok(elements @ 2..) = usize::try_from(run)
        && let Place::Ram(from) = cpu.locate(from, Kind::Read, cpu.user)?
        && let Place::Ram(to) = cpu.locate(to, Kind::Write, cpu.user)?
    {
        copy::<T>(&cpu.mmu.ram, from, to, elements, backwards);
        advance::<T>(cpu, RSI, run);
        advance::<T>(cpu, RDI, run);
        return Ok(run);
    }
    // Devices, elements that straddle pages, pages with code.
    move_one::<T>(cpu, op).map(|()| 1)
}

fn move_repeatedly<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    repeat::<T>(cpu, op, move_some::<T>)
}

fn store_one<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let value = cpu.get::<T>(RAX);
    cpu.write::<T>(destination(cpu), value)?;
    advance::<T>(cpu, RDI, 1);
    Ok(())
}

/// Stores up to `most` elements, those that lie in the same page as the first, and says how many.
fn store_some<T: Word>(cpu: &mut Cpu, op: &Op, most: u64) -> Step<u64> {
    let (to, backwards) = (destination(cpu), goes_backwards(cpu));
    let run = most.min(elements_in_page::<T>(to, backwards));
    if let Ok(elements @ 2..) = usize::try_from(run)
        && let Place::Ram(to) = cpu.locate(to, Kind::Write, cpu.user)?
    {
        let lowest = if backwards { to - (elements - 1) * size_of::<T>() } else { to };
        fill::<T>(&cpu.mmu.ram, lowest, elements, cpu.get::<T>(RAX));
        advance::<T>(cpu, RDI, run);
        return Ok(run);
    }
    store_one::<T>(cpu, op).map(|()| 1)
}

fn store_repeatedly<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    repeat::<T>(cpu, op, store_some::<T>)
}

pub(super) fn movs(instruction: &Instruction, size: usize) -> Option<Handler> {
    let repeated = is_repeated(instruction);
    Some(sized!(size, T => if repeated { move_repeatedly::<T> } else { move_one::<T> }))
}

pub(super) fn stos(instruction: &Instruction, size: usize) -> Option<Handler> {
    let repeated = is_repeated(instruction);
    Some(sized!(size, T => if repeated { store_repeatedly::<T> } else { store_one::<T> }))
}
