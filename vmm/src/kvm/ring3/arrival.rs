//! What ring 3 has ended with, once KVM_RUN has stopped at a HLT.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use kvm_bindings::kvm_sregs;

use super::super::event_frame::Frame;
use super::{Ring3, Ring3Exit, Ring3State, syscall};
use crate::cpu::{CpuError, page_walk};

const RFLAGS_RF: u64 = 1 << 16;
/// Longest instruction in bytes.
const MAX_INSTRUCTION: usize = 15;

impl Ring3 {
    /// Turns `state`, behind a HLT, into the state at the handler, and sees what brought it there. `entered` are the
    /// registers that ring 3 was entered with.
    pub(super) fn arrive(
        &mut self,
        state: &mut Ring3State,
        entered: &kvm_sregs,
    ) -> Result<Ring3Exit, CpuError> {
        let handler = state.regs.rip.wrapping_sub(1);
        if state.sregs.ss.dpl != 0 || !self.entry_points.contain(handler) {
            let cause = "KVM halted, but not at an exception handler of the guest's kernel";
            return Err(self.death(cause, None));
        }
        state.regs.rip = handler;
        if handler == state.syscall.lstar {
            return Ok(Ring3Exit::Syscall);
        }
        if Some(handler) == self.entry_points.page_fault()
            && let Some(frame) = self.read_stack(state).map(Frame::parse)
            && syscall::caused(&state.syscall, &state.regs, &frame)
        {
            syscall::complete(&state.syscall, &mut state.regs, &mut state.sregs, frame.rsp);
            state.sregs.cr2 = entered.cr2;
            return Ok(Ring3Exit::Syscall);
        }
        if Some(handler) == self.entry_points.invalid_opcode()
            && let Some(frame) = self.read_stack(state).map(Frame::parse_without_error)
            && frame.cs == u64::from(entered.cs.selector)
            && self.is_software_interrupt(entered, frame.rip)
        {
            return_to_program(state, entered, &frame);
            return Ok(Ring3Exit::Interpret);
        }
        Ok(Ring3Exit::Kernel)
    }

    fn read_stack<const N: usize>(&self, state: &Ring3State) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let len = page_walk::read(&self.memory, (&state.sregs).into(), state.regs.rsp, &mut bytes);
        (len == N).then_some(bytes)
    }

    /// Whether an `int` with a number is at `rip`: an invalid opcode to a KVM without hardware assistance.
    fn is_software_interrupt(&self, sregs: &kvm_sregs, rip: u64) -> bool {
        let mut bytes = [0; MAX_INSTRUCTION];
        let at = sregs.cs.base.wrapping_add(rip);
        let len = page_walk::read(&self.memory, sregs.into(), at, &mut bytes);
        let bitness = if sregs.cs.l == 1 { 64 } else { 32 };
        let bytes = bytes.get(..len).unwrap_or_default();
        let instruction = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE).decode();
        instruction.mnemonic() == Mnemonic::Int
    }
}

/// Undoes the delivery of a fault: the state is that of the program before the instruction.
fn return_to_program(state: &mut Ring3State, entered: &kvm_sregs, frame: &Frame) {
    state.regs.rip = frame.rip;
    state.regs.rsp = frame.rsp;
    state.regs.rflags = frame.rflags & !RFLAGS_RF;
    state.sregs.cs = entered.cs;
    state.sregs.ss = entered.ss;
}
