//! String instructions: [`copy`] has movs and stos, [`search`] lods, scas and cmps, [`port`] ins and outs.
//!
//! A repeated one keeps its progress in RCX, RSI and RDI. It goes on for about a page and then stops with
//! [`Stop::Again`] so that interrupts come in; a fault in its middle leaves the registers at the element that faulted.
//! Nothing else may have changed then.

mod copy;
mod port;
mod search;
#[cfg(test)]
mod tests;

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RCX, RDI, RSI};
use super::super::flags::DF;
use super::super::ram::PAGE;
use super::super::step::{Step, Stop};
use super::super::word::Word;

/// Most bytes that a repeated instruction works on at once.
const CHUNK: u64 = PAGE;

#[inline(always)]
fn size<T: Word>() -> u64 {
    size_of::<T>() as u64
}

/// Whether strings are worked on from their end to their start.
#[inline(always)]
fn goes_backwards(cpu: &Cpu) -> bool {
    cpu.flags.rest() & DF != 0
}

/// Address of the source element.
#[inline(always)]
fn source(cpu: &Cpu, op: &Op) -> u64 {
    cpu.regs[usize::from(RSI)].wrapping_add(cpu.bases[usize::from(op.segment & 3)])
}

/// Address of the destination element.
#[inline(always)]
fn destination(cpu: &Cpu) -> u64 {
    cpu.regs[usize::from(RDI)]
}

#[inline(always)]
fn advance<T: Word>(cpu: &mut Cpu, register: u8, elements: u64) {
    let distance = elements * size::<T>();
    let pointer = cpu.regs[usize::from(register)];
    cpu.regs[usize::from(register)] =
        if goes_backwards(cpu) { pointer.wrapping_sub(distance) } else { pointer.wrapping_add(distance) };
}

/// How many elements, from the one at `address` on, lie entirely in its page.
fn elements_in_page<T: Word>(address: u64, backwards: bool) -> u64 {
    let within = address & (PAGE - 1);
    let forwards = (PAGE - within) / size::<T>();
    match (backwards, forwards) {
        (false, _) | (true, 0) => forwards,
        (true, _) => within / size::<T>() + 1,
    }
}

/// Repeats `some` until RCX is zero or a chunk is done. Given how many elements it may do, `some` does at least one,
/// advances the pointers, and says how many it did.
#[inline(always)]
fn repeat<T: Word>(cpu: &mut Cpu, op: &Op, some: impl Fn(&mut Cpu, &Op, u64) -> Step<u64>) -> Step {
    let mut most = CHUNK / size::<T>();
    while most > 0 {
        let count = cpu.regs[usize::from(RCX)];
        if count == 0 {
            return Ok(());
        }
        let done = some(cpu, op, count.min(most))?;
        cpu.regs[usize::from(RCX)] = count.wrapping_sub(done);
        most = most.saturating_sub(done);
        if !cpu.answered.is_empty() || cpu.port_answer.is_some() {
            // What a device has answered was for this element alone.
            break;
        }
    }
    if cpu.regs[usize::from(RCX)] == 0 { Ok(()) } else { Err(Stop::Again) }
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let is = |operand, kind| instruction.op_kind(operand) == kind;
    op.segment = operands::segment(instruction);
    let size = instruction.memory_size().size();
    // The mnemonics of some are those of SSE instructions as well.
    match instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if is(0, OpKind::MemoryESRDI) =>
        {
            copy::movs(instruction, size)
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq
            if is(0, OpKind::MemoryESRDI) =>
        {
            copy::stos(instruction, size)
        }
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd if is(0, OpKind::MemoryESRDI) => {
            port::ins(instruction, size)
        }
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd if is(1, OpKind::MemorySegRSI) => {
            port::outs(instruction, size)
        }
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq
            if is(1, OpKind::MemorySegRSI) =>
        {
            search::lods(instruction, size)
        }
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq
            if is(1, OpKind::MemoryESRDI) =>
        {
            search::scas(instruction, size)
        }
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq
            if is(1, OpKind::MemoryESRDI) =>
        {
            search::cmps(instruction, size)
        }
        _ => None,
    }
}

/// Whether an instruction has a repeat prefix, of either kind.
fn is_repeated(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}
