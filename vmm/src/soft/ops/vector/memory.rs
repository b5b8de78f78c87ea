//! Vectors in memory: 16 or 32 bytes. Operands of SSE must be aligned, those of AVX need not be.

use super::super::super::code::op::Op;
use super::super::super::cpu::Cpu;
use super::super::super::mmu::tlb::Kind;
use super::super::super::step::Step;
use super::operands::{is_memory, is_vex, is_wide, last};
use super::registers::{Vector, get, ready};

const PAGE: u64 = 0x1000;

#[inline(always)]
fn is_within_page(address: u64, len: u64) -> bool {
    address & (PAGE - 1) <= PAGE - len
}

/// Reads 16 bytes.
#[inline(always)]
pub(super) fn read_16(cpu: &mut Cpu, address: u64) -> Step<u128> {
    if is_within_page(address, 16)
        && let Some(offset) = cpu.mmu.tlb.find(address, Kind::Read, cpu.user)
    {
        return Ok(load_16(cpu, offset));
    }
    let mut bytes = [0; 16];
    read_slowly(cpu, address, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// Reads 32 bytes.
#[inline(always)]
pub(super) fn read_32(cpu: &mut Cpu, address: u64) -> Step<Vector> {
    if is_within_page(address, 32)
        && let Some(offset) = cpu.mmu.tlb.find(address, Kind::Read, cpu.user)
    {
        return Ok([load_16(cpu, offset), load_16(cpu, offset + 16)]);
    }
    let mut halves = [[0; 16]; 2];
    read_slowly(cpu, address, halves.as_flattened_mut())?;
    Ok(halves.map(u128::from_le_bytes))
}

#[inline(always)]
fn load_16(cpu: &Cpu, offset: usize) -> u128 {
    let word = |offset| u128::from(cpu.mmu.ram.load::<u64>(offset));
    word(offset) | word(offset + 8) << 64
}

#[cold]
fn read_slowly(cpu: &mut Cpu, address: u64, bytes: &mut [u8]) -> Step {
    if !is_within_page(address, bytes.len() as u64) {
        return cpu.read_bytes(address, bytes);
    }
    for (at, to) in (address..).step_by(8).zip(bytes.as_chunks_mut::<8>().0) {
        *to = cpu.read::<u64>(at)?.to_le_bytes();
    }
    Ok(())
}

/// Writes 16 bytes.
#[inline(always)]
pub(super) fn write_16(cpu: &mut Cpu, address: u64, value: u128) -> Step {
    if is_within_page(address, 16)
        && let Some(offset) = cpu.mmu.tlb.find(address, Kind::Write, cpu.user)
    {
        store_16(cpu, offset, value);
        return Ok(());
    }
    write_slowly(cpu, address, &value.to_le_bytes())
}

/// Writes 32 bytes.
#[inline(always)]
pub(super) fn write_32(cpu: &mut Cpu, address: u64, value: Vector) -> Step {
    if is_within_page(address, 32)
        && let Some(offset) = cpu.mmu.tlb.find(address, Kind::Write, cpu.user)
    {
        store_16(cpu, offset, value[0]);
        store_16(cpu, offset + 16, value[1]);
        return Ok(());
    }
    write_slowly(cpu, address, value.map(u128::to_le_bytes).as_flattened())
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
fn store_16(cpu: &Cpu, offset: usize, value: u128) {
    cpu.mmu.ram.store(offset, value as u64);
    cpu.mmu.ram.store(offset + 8, (value >> 64) as u64);
}

#[cold]
fn write_slowly(cpu: &mut Cpu, address: u64, bytes: &[u8]) -> Step {
    if !is_within_page(address, bytes.len() as u64) {
        return cpu.write_bytes(address, bytes);
    }
    // If the first word can be written, so can the others, which are in the same page.
    for (at, word) in (address..).step_by(8).zip(bytes.as_chunks::<8>().0) {
        cpu.write::<u64>(at, u64::from_le_bytes(*word))?;
    }
    Ok(())
}

/// Reads the memory operand, which need not be aligned. The instruction must be [`ready`].
#[inline(always)]
pub(super) fn load(cpu: &mut Cpu, op: &Op) -> Step<Vector> {
    let address = op.address(cpu);
    if is_wide(op) { read_32(cpu, address) } else { Ok([read_16(cpu, address)?, 0]) }
}

/// Writes the memory operand, which need not be aligned. The instruction must be [`ready`].
#[inline(always)]
pub(super) fn store(cpu: &mut Cpu, op: &Op, value: Vector) -> Step {
    let address = op.address(cpu);
    if is_wide(op) { write_32(cpu, address, value) } else { write_16(cpu, address, value[0]) }
}

/// Checks that the memory operand is aligned to its size.
#[inline(always)]
pub(super) fn check_aligned(cpu: &mut Cpu, op: &Op) -> Step {
    let mask = if is_wide(op) { 31 } else { 15 };
    if op.address(cpu) & mask != 0 {
        return cpu.protection();
    }
    Ok(())
}

/// The last operand of an instruction that computes: a register, or memory, aligned unless the instruction is one of AVX.
pub(super) fn last_operand(cpu: &mut Cpu, op: &Op) -> Step<Vector> {
    ready(cpu, op)?;
    if !is_memory(op) {
        return get(cpu, op, last(op));
    }
    if !is_vex(op) {
        check_aligned(cpu, op)?;
    }
    load(cpu, op)
}

/// The first and the last operand.
pub(super) fn both_operands(cpu: &mut Cpu, op: &Op) -> Step<(Vector, Vector)> {
    let last = last_operand(cpu, op)?;
    Ok((get(cpu, op, op.src)?, last))
}
