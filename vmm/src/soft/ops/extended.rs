//! FPU and vector units, as far as a kernel touches them: saving, restoring and initialising their state.
//!
//! Intel SDM volume 1, sections 10.5 (FXSAVE area) and 13 (XSAVE). Arithmetic is not here: programs do that natively.

use iced_x86::{Code, Instruction, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RAX, RDX};
use super::super::step::{Exception, Step, Stop};
use crate::cpu::control_bits::{CR0_EM, CR0_TS, CR4_OSXSAVE};
use crate::cpu::xstate;
use crate::kvm::ExtendedState;

/// Offsets in the area: control word, status word, abridged tag word, MXCSR, XSTATE_BV.
const FCW: usize = 0;
const FSW: usize = 2;
const FTW: usize = 4;
const MXCSR: usize = 24;
pub(super) const XSTATE_BV: usize = 512;
/// What FXSAVE writes; the rest of its 512 bytes is software's.
const FXSAVE_LEN: usize = 416;
/// First byte behind the x87 control state; MXCSR and its mask follow.
const CONTROL_END: usize = 24;
const REGISTERS: usize = 32;
/// Largest area: the state as KVM has it.
const MAX_AREA: usize = 4096;

/// Components: x87, SSE, the high halves of AVX's registers, what AVX-512 adds to those.
const X87: u8 = 1;
pub(super) const SSE: u8 = 2;
pub(super) const AVX: u8 = 4;
pub(super) const UPPER_ZMM: u8 = 1 << 6;
/// Control word after initialisation.
const FCW_INIT: u16 = 0x37f;
/// Status word: exception flags, stack fault, pending, busy.
const FSW_EXCEPTIONS: u16 = 0x80ff;
/// Status word: an unmasked exception is pending.
const FSW_PENDING: u16 = 1 << 7;
/// MXCSR bits that exist.
const MXCSR_MASK: u32 = 0xffff;

/// The state, for an instruction that uses x87 or vector units.
pub(super) fn state(cpu: &mut Cpu) -> Step<&mut ExtendedState> {
    if cpu.mmu.paging.cr0 & (CR0_TS | CR0_EM) != 0 {
        return cpu.raise(Exception::DEVICE_NOT_AVAILABLE);
    }
    match &mut cpu.extended {
        Some(extended) => Ok(&mut extended.state),
        None => Err(Stop::Extended),
    }
}

/// The state to be changed; `components` will no longer be in their initial state.
pub(super) fn state_mut(cpu: &mut Cpu, components: u8) -> Step<&mut ExtendedState> {
    state(cpu)?;
    let Some(extended) = &mut cpu.extended else { return Err(Stop::Extended) };
    extended.is_dirty = true;
    extended.state[XSTATE_BV] |= components;
    Ok(&mut extended.state)
}

fn word(state: &ExtendedState, at: usize) -> u16 {
    u16::from_le_bytes([state[at], state[at + 1]])
}

fn set_word(state: &mut ExtendedState, at: usize, value: u16) {
    state[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn low_16(value: u64) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or_default()
}

/// The components that EDX:EAX asks for, of those that are enabled.
fn requested(cpu: &mut Cpu) -> Step<u64> {
    if cpu.mmu.paging.cr4 & CR4_OSXSAVE == 0 {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    Ok((cpu.get::<u32>(RDX) << 32 | cpu.get::<u32>(RAX)) & cpu.xcr0)
}

fn check_aligned(cpu: &mut Cpu, address: u64, alignment: u64) -> Step {
    if address.is_multiple_of(alignment) { Ok(()) } else { cpu.protection() }
}

fn xsave(cpu: &mut Cpu, op: &Op) -> Step {
    let requested = requested(cpu)?;
    let state = *state(cpu)?;
    let address = op.address(cpu);
    check_aligned(cpu, address, 64)?;
    let mut buffer = [0; MAX_AREA];
    let len = cpu.xstate.area_len(requested).min(MAX_AREA);
    let area = &mut buffer[..len];
    cpu.read_bytes(address, area)?;
    xstate::save(area, &state, &cpu.xstate, requested);
    cpu.write_bytes(address, area)
}

fn xrstor(cpu: &mut Cpu, op: &Op) -> Step {
    let requested = requested(cpu)?;
    let mut state = *state(cpu)?;
    let address = op.address(cpu);
    check_aligned(cpu, address, 64)?;
    let mut buffer = [0; MAX_AREA];
    let len = cpu.xstate.area_len(requested).min(MAX_AREA);
    let area = &mut buffer[..len];
    cpu.read_bytes(address, area)?;
    if xstate::restore(&mut state, area, &cpu.xstate, requested, cpu.xcr0).is_err() {
        return cpu.protection();
    }
    *state_mut(cpu, 0)? = state;
    Ok(())
}

fn fxsave(cpu: &mut Cpu, op: &Op) -> Step {
    let state = *state(cpu)?;
    let address = op.address(cpu);
    check_aligned(cpu, address, 16)?;
    cpu.write_bytes(address, &state[..FXSAVE_LEN])
}

fn fxrstor(cpu: &mut Cpu, op: &Op) -> Step {
    state(cpu)?;
    let address = op.address(cpu);
    check_aligned(cpu, address, 16)?;
    let mut area = [0; FXSAVE_LEN];
    cpu.read_bytes(address, &mut area)?;
    let mxcsr = u32::from_le_bytes([area[MXCSR], area[MXCSR + 1], area[MXCSR + 2], area[MXCSR + 3]]);
    if mxcsr & !MXCSR_MASK != 0 {
        return cpu.protection();
    }
    let state = state_mut(cpu, X87 | SSE)?;
    state[..CONTROL_END].copy_from_slice(&area[..CONTROL_END]);
    // MXCSR_MASK, the four bytes behind MXCSR, is a property of the CPU.
    state[MXCSR..MXCSR + 4].copy_from_slice(&area[MXCSR..MXCSR + 4]);
    state[REGISTERS..FXSAVE_LEN].copy_from_slice(&area[REGISTERS..FXSAVE_LEN]);
    Ok(())
}

fn fninit(cpu: &mut Cpu, _: &Op) -> Step {
    let state = state_mut(cpu, X87)?;
    state[..CONTROL_END].fill(0);
    set_word(state, FCW, FCW_INIT);
    Ok(())
}

fn fnclex(cpu: &mut Cpu, _: &Op) -> Step {
    let state = state_mut(cpu, X87)?;
    set_word(state, FSW, word(state, FSW) & !FSW_EXCEPTIONS);
    Ok(())
}

fn fwait(cpu: &mut Cpu, _: &Op) -> Step {
    if word(state(cpu)?, FSW) & FSW_PENDING != 0 {
        return cpu.raise(Exception::FLOATING_POINT);
    }
    Ok(())
}

fn emms(cpu: &mut Cpu, _: &Op) -> Step {
    state_mut(cpu, X87)?[FTW] = 0;
    Ok(())
}

fn fnstsw_ax(cpu: &mut Cpu, _: &Op) -> Step {
    let status = word(state(cpu)?, FSW);
    cpu.set::<u16>(RAX, status.into());
    Ok(())
}

fn store_word<const AT: usize>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = word(state(cpu)?, AT);
    cpu.write::<u16>(op.address(cpu), value.into())
}

fn fldcw(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<u16>(op.address(cpu))?;
    set_word(state_mut(cpu, X87)?, FCW, low_16(value));
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Step {
    let state = state(cpu)?;
    let value = u32::from(word(state, MXCSR)) | u32::from(word(state, MXCSR + 2)) << 16;
    cpu.write::<u32>(op.address(cpu), value.into())
}

fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Step {
    state(cpu)?;
    let value = cpu.read::<u32>(op.address(cpu))?;
    if value & !u64::from(MXCSR_MASK) != 0 {
        return cpu.protection();
    }
    let state = state_mut(cpu, SSE)?;
    set_word(state, MXCSR, low_16(value));
    set_word(state, MXCSR + 2, 0);
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.code() {
        // In 64-bit mode both forms differ in how the last x87 instruction is reported only.
        Code::Xsave_mem | Code::Xsave64_mem | Code::Xsaveopt_mem | Code::Xsaveopt64_mem => xsave,
        Code::Xrstor_mem | Code::Xrstor64_mem => xrstor,
        Code::Fxsave_m512byte | Code::Fxsave64_m512byte => fxsave,
        Code::Fxrstor_m512byte | Code::Fxrstor64_m512byte => fxrstor,
        Code::Fninit => fninit,
        Code::Fnclex => fnclex,
        Code::Wait => fwait,
        Code::Emms => emms,
        Code::Fnstsw_AX => fnstsw_ax,
        Code::Fnstsw_m2byte => store_word::<FSW>,
        Code::Fnstcw_m2byte => store_word::<FCW>,
        Code::Fldcw_m2byte => fldcw,
        Code::Stmxcsr_m32 => stmxcsr,
        Code::Ldmxcsr_m32 => ldmxcsr,
        _ => return None,
    };
    if instruction.op_count() > 0 && instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
    }
    Some(handler)
}
