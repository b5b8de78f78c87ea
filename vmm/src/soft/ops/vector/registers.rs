//! Vector registers. Their low halves (XMM) are in the legacy region of the state, their high halves (YMM) a component
//! of its own, as is what AVX-512 has above.
//!
//! Instructions of SSE leave everything above 128 bits as it is; those of AVX clear what is above their result.

use super::super::super::code::op::Op;
use super::super::super::cpu::Cpu;
use super::super::super::step::{Exception, Step, Stop};
use super::super::extended::{AVX, SSE, UPPER_ZMM, XSTATE_BV, state};
use super::operands::{is_vex, is_wide};
use crate::cpu::control_bits::CR4_OSXSAVE;
use crate::kvm::ExtendedState;

/// What XCR0 must have for AVX.
const ENABLED: u64 = (SSE | AVX) as u64;
/// Where the low halves start.
const LOW_HALVES: usize = 160;
const BYTES: usize = 16;
/// Bytes of a register above its lower 256 bits.
const UPPER_BYTES: usize = 32;

/// The value of a register: low and high half.
pub(super) type Vector = [u128; 2];

/// Checks that the instruction may use vector registers.
#[inline(always)]
pub(super) fn ready(cpu: &mut Cpu, op: &Op) -> Step {
    if is_vex(op) && (cpu.mmu.paging.cr4 & CR4_OSXSAVE == 0 || cpu.xcr0 & ENABLED != ENABLED) {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    state(cpu)?;
    Ok(())
}

#[inline(always)]
fn half(state: &ExtendedState, at: usize) -> u128 {
    let bytes = state.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

#[inline(always)]
fn set_half(state: &mut ExtendedState, at: usize, value: u128) {
    if let Some(bytes) = state.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *bytes = value.to_le_bytes();
    }
}

/// The state, if the instruction is [`ready`].
#[inline(always)]
fn area(cpu: &Cpu) -> Step<&ExtendedState> {
    cpu.extended.as_ref().map(|extended| &*extended.state).ok_or(Stop::Extended)
}

/// The state to be changed, if the instruction is [`ready`]; `components` will no longer be in their initial state.
#[inline(always)]
fn area_mut(cpu: &mut Cpu, components: u8) -> Step<&mut ExtendedState> {
    let Some(extended) = &mut cpu.extended else { return Err(Stop::Extended) };
    extended.is_dirty = true;
    extended.state[XSTATE_BV] |= components;
    Ok(&mut extended.state)
}

#[inline(always)]
fn offset(register: u8) -> usize {
    usize::from(register & 15) * BYTES
}

/// The low half of a register.
#[inline(always)]
pub(super) fn get_low(cpu: &Cpu, register: u8) -> Step<u128> {
    Ok(half(area(cpu)?, LOW_HALVES + offset(register)))
}

/// The low 64 bits of a register.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low part is wanted")]
pub(super) fn get_number(cpu: &Cpu, register: u8) -> Step<u64> {
    Ok(get_low(cpu, register)? as u64)
}

/// What the instruction sees of a register: the low half, and the high one if it works on 256 bits.
#[inline(always)]
pub(super) fn get(cpu: &Cpu, op: &Op, register: u8) -> Step<Vector> {
    if is_wide(op) { get_whole(cpu, register) } else { Ok([get_low(cpu, register)?, 0]) }
}

/// Both halves of a register.
#[inline(always)]
pub(super) fn get_whole(cpu: &Cpu, register: u8) -> Step<Vector> {
    let high = cpu.xstate.high_halves;
    let state = area(cpu)?;
    Ok([half(state, LOW_HALVES + offset(register)), half(state, high + offset(register))])
}

/// Sets a register to a result of 128 bits.
pub(super) fn set_low(cpu: &mut Cpu, op: &Op, register: u8, value: u128) -> Step {
    let (high, upper) = (cpu.xstate.high_halves, cpu.xstate.upper_zmm);
    let state = area_mut(cpu, SSE)?;
    set_half(state, LOW_HALVES + offset(register), value);
    if is_vex(op) {
        // Components that are not in use hold zeros.
        if state[XSTATE_BV] & AVX != 0 {
            set_half(state, high + offset(register), 0);
        }
        clear_upper(state, upper, register);
    }
    Ok(())
}

/// Sets a register to a result as wide as the instruction.
pub(super) fn set(cpu: &mut Cpu, op: &Op, register: u8, [low, high]: Vector) -> Step {
    if !is_wide(op) {
        return set_low(cpu, op, register, low);
    }
    let (high_halves, upper) = (cpu.xstate.high_halves, cpu.xstate.upper_zmm);
    let state = area_mut(cpu, SSE | AVX)?;
    set_half(state, LOW_HALVES + offset(register), low);
    set_half(state, high_halves + offset(register), high);
    clear_upper(state, upper, register);
    Ok(())
}

#[inline(always)]
fn clear_upper(state: &mut ExtendedState, upper: usize, register: u8) {
    if state[XSTATE_BV] & UPPER_ZMM != 0 {
        let at = upper + 2 * offset(register);
        if let Some(bytes) = state.get_mut(at..at + UPPER_BYTES) {
            bytes.fill(0);
        }
    }
}

/// Clears all of the registers above 128 bits, and below as well if `low` says so.
pub(super) fn clear_all(cpu: &mut Cpu, low: bool) -> Step {
    let (high, upper) = (cpu.xstate.high_halves, cpu.xstate.upper_zmm);
    let state = area_mut(cpu, 0)?;
    for (component, at, register_len) in [(AVX, high, BYTES), (UPPER_ZMM, upper, UPPER_BYTES)] {
        if state[XSTATE_BV] & component != 0
            && let Some(bytes) = state.get_mut(at..at + 16 * register_len)
        {
            bytes.fill(0);
            state[XSTATE_BV] &= !component;
        }
    }
    if low {
        state[LOW_HALVES..LOW_HALVES + 16 * BYTES].fill(0);
    }
    Ok(())
}
