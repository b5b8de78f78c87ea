//! The integer part of SSE2, as far as the string functions of C libraries use it.
//!
//! Vector code runs natively as a rule. But programs that have just started alternate between a few instructions, among
//! them some of these, and page faults or system calls; entering them natively each time would cost more than all of
//! their work. Intel SDM volume 2; [`moves`] moves data, [`lanes`] computes.

mod lanes;
mod moves;
#[cfg(test)]
mod tests;

use iced_x86::{Instruction, OpKind, Register};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::Cpu;
use super::super::step::Step;
use super::extended::{SSE, state, state_mut};

/// Where the registers start in the state's area.
const REGISTERS: usize = 160;
const BYTES: usize = 16;

/// The value of a vector register.
fn get(cpu: &mut Cpu, register: u8) -> Step<u128> {
    let state = state(cpu)?;
    let at = REGISTERS + usize::from(register & 15) * BYTES;
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(&state[at..at + BYTES]);
    Ok(u128::from_le_bytes(bytes))
}

/// Sets a vector register. What AVX has above its 128 bits stays.
fn set(cpu: &mut Cpu, register: u8, value: u128) -> Step {
    let state = state_mut(cpu, SSE)?;
    let at = REGISTERS + usize::from(register & 15) * BYTES;
    state[at..at + BYTES].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Reads 16 bytes.
fn read(cpu: &mut Cpu, address: u64) -> Step<u128> {
    let mut bytes = [0; BYTES];
    if address & 0xfff <= 0xff0 {
        let low = cpu.read::<u64>(address)?;
        let high = cpu.read::<u64>(address + 8)?;
        return Ok(u128::from(high) << 64 | u128::from(low));
    }
    cpu.read_bytes(address, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// Writes 16 bytes.
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
fn write(cpu: &mut Cpu, address: u64, value: u128) -> Step {
    if address & 0xfff <= 0xff0 {
        // If the first half can be written, so can the second, which is in the same page.
        cpu.write::<u64>(address, value as u64)?;
        return cpu.write::<u64>(address + 8, (value >> 64) as u64);
    }
    cpu.write_bytes(address, &value.to_le_bytes())
}

/// Reads 16 bytes that must be aligned.
fn read_aligned(cpu: &mut Cpu, address: u64) -> Step<u128> {
    if !address.is_multiple_of(16) {
        return cpu.protection();
    }
    read(cpu, address)
}

/// The number of a vector register; `None` for other registers.
fn register(register: Register) -> Option<u8> {
    if !register.is_xmm() {
        return None;
    }
    u8::try_from(register.number()).ok().filter(|number| *number < 16)
}

/// Puts the second operand, a vector register or memory, into `op` and says whether it is memory.
fn source(instruction: &Instruction, op: &mut Op) -> Option<bool> {
    if instruction.op_kind(1) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(true);
    }
    op.src = register(instruction.op_register(1))?;
    Some(false)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    moves::translate(instruction, op).or_else(|| lanes::translate(instruction, op))
}
