//! Completes instructions of ring 0 that KVM's emulator refuses, and steps over ones that a breakpoint sits on.
//!
//! An instruction that is not listed here is not guessed at: the guest dies with its bytes in the message.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};
use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;

use super::super::KvmError;
use super::inject::{Exception, advance, raise};
use crate::cpu::control_bits::{CR0_MP, CR0_TS};

const RFLAGS_DF: u64 = 1 << 10;
const RFLAGS_AC: u64 = 1 << 18;
/// x87 status word: an unmasked exception is pending.
const FSW_PENDING: u16 = 1 << 7;
/// x87 status word: what `fnclex` clears (exception flags, stack fault, pending, busy).
const FSW_EXCEPTIONS: u16 = 0x80ff;
/// x87 control word after `fninit`.
const FCW_INIT: u16 = 0x37f;

/// What completing an instruction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completion {
    /// `int3`: the exception, with RIP behind the instruction.
    Breakpoint,
    /// `fwait`: an exception if one is due, otherwise nothing.
    Wait,
    /// `fnclex`.
    ClearExceptions,
    /// `fninit`.
    Initialise,
    /// `emms`: all x87 registers empty.
    EmptyRegisters,
}

pub(super) fn decode(bytes: &[u8]) -> Instruction {
    Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode()
}

fn completion(instruction: &Instruction) -> Option<Completion> {
    match instruction.code() {
        Code::Int3 => Some(Completion::Breakpoint),
        Code::Wait => Some(Completion::Wait),
        Code::Fnclex => Some(Completion::ClearExceptions),
        Code::Fninit => Some(Completion::Initialise),
        Code::Emms => Some(Completion::EmptyRegisters),
        _ => None,
    }
}

/// Completes the instruction in `bytes` at RIP; returns whether it is one of the known ones.
pub(super) fn complete(vcpu: &mut VcpuFd, bytes: &[u8]) -> Result<bool, KvmError> {
    let state = vcpu.sync_regs();
    if state.sregs.cs.l == 0 {
        return Ok(false);
    }
    let instruction = decode(bytes);
    let Some(completion) = completion(&instruction) else { return Ok(false) };
    if completion == Completion::Breakpoint {
        advance(vcpu, instruction.len())?;
        raise(vcpu, Exception::Breakpoint)?;
        return Ok(true);
    }
    let mut fpu = vcpu.get_fpu().map_err(KvmError::call("read the x87 state"))?;
    let exception = pending_exception(completion, state.sregs.cr0, fpu.fsw);
    if let Some(exception) = exception {
        advance(vcpu, 0)?;
        raise(vcpu, exception)?;
        return Ok(true);
    }
    match completion {
        Completion::Breakpoint | Completion::Wait => {}
        Completion::ClearExceptions => fpu.fsw &= !FSW_EXCEPTIONS,
        Completion::Initialise => (fpu.fcw, fpu.fsw, fpu.ftwx) = (FCW_INIT, 0, 0),
        Completion::EmptyRegisters => fpu.ftwx = 0,
    }
    if completion != Completion::Wait {
        vcpu.set_fpu(&fpu).map_err(KvmError::call("set the x87 state"))?;
    }
    advance(vcpu, instruction.len())?;
    Ok(true)
}

/// The exception due instead of completing (Intel SDM volume 2, "WAIT/FWAIT" and the others).
fn pending_exception(completion: Completion, cr0: u64, fsw: u16) -> Option<Exception> {
    let (task_switched, monitored) = (cr0 & CR0_TS != 0, cr0 & CR0_MP != 0);
    match completion {
        Completion::Wait if task_switched && monitored => Some(Exception::DeviceNotAvailable),
        Completion::ClearExceptions | Completion::Initialise | Completion::EmptyRegisters
            if task_switched =>
        {
            Some(Exception::DeviceNotAvailable)
        }
        Completion::Wait | Completion::EmptyRegisters if fsw & FSW_PENDING != 0 => Some(Exception::MathFault),
        _ => None,
    }
}

/// Steps over the instruction in `bytes`, with its effect on `regs`.
///
/// # Errors
/// With a text, when it is not one that begins Linux's page-fault handler in any version.
pub(super) fn step_over(regs: &mut kvm_regs, bytes: &[u8]) -> Result<(), String> {
    let instruction = decode(bytes);
    match instruction.mnemonic() {
        Mnemonic::Nop | Mnemonic::Endbr64 => {}
        Mnemonic::Clac => regs.rflags &= !RFLAGS_AC,
        Mnemonic::Cld => regs.rflags &= !RFLAGS_DF,
        _ => {
            let bytes = bytes.get(..instruction.len()).unwrap_or(bytes);
            return Err(format!(
                "the guest's page-fault handler at {:#x} begins with an instruction that cannot be stepped over, bytes {bytes:02x?}",
                regs.rip
            ));
        }
    }
    regs.rip = regs.rip.wrapping_add(instruction.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_known_to_be_refused_are_recognised() {
        for (bytes, expected) in [
            (&[0xcc][..], Some(Completion::Breakpoint)),
            (&[0x9b], Some(Completion::Wait)),
            (&[0xdb, 0xe2], Some(Completion::ClearExceptions)),
            (&[0xdb, 0xe3], Some(Completion::Initialise)),
            (&[0x0f, 0x77], Some(Completion::EmptyRegisters)),
            (&[0x0f, 0x0b], None),
            (&[], None),
        ] {
            assert_eq!(completion(&decode(bytes)), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn fwait_faults_when_the_fpu_is_not_available_or_has_something_to_report() {
        assert_eq!(pending_exception(Completion::Wait, 0, 0), None);
        assert_eq!(pending_exception(Completion::Wait, CR0_TS, 0), None);
        assert_eq!(
            pending_exception(Completion::Wait, CR0_TS | CR0_MP, 0),
            Some(Exception::DeviceNotAvailable)
        );
        assert_eq!(pending_exception(Completion::Wait, 0, FSW_PENDING), Some(Exception::MathFault));
        assert_eq!(pending_exception(Completion::ClearExceptions, 0, FSW_PENDING), None);
    }

    #[test]
    fn the_beginnings_of_page_fault_handlers_are_stepped_over() {
        for (bytes, len) in [
            (&[0x0f, 0x01, 0xca][..], 3),
            (&[0x0f, 0x1f, 0x00], 3),
            (&[0x90], 1),
            (&[0xf3, 0x0f, 0x1e, 0xfa], 4),
            (&[0xfc], 1),
        ] {
            let mut regs = kvm_regs { rip: 100, rflags: RFLAGS_AC | RFLAGS_DF | 2, ..Default::default() };
            step_over(&mut regs, bytes).unwrap();
            assert_eq!(regs.rip, 100 + len, "{bytes:02x?}");
        }
    }

    #[test]
    fn clac_and_cld_have_their_effect() {
        let mut regs = kvm_regs { rflags: RFLAGS_AC | RFLAGS_DF | 2, ..Default::default() };
        step_over(&mut regs, &[0x0f, 0x01, 0xca]).unwrap();
        step_over(&mut regs, &[0xfc]).unwrap();
        assert_eq!(regs.rflags, 2);
    }

    #[test]
    fn anything_else_is_an_error_with_its_bytes() {
        let error = step_over(&mut kvm_regs::default(), &[0x50, 0x51]).unwrap_err();
        assert!(error.contains("bytes [50]"), "{error}");
    }
}
