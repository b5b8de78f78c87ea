//! What has no effect that the interpreter could show: no-operations, hints, fences, cache line flushes; and the
//! instructions that are defined to be undefined.

use iced_x86::{Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::Cpu;
use super::super::mmu::tlb::Kind;
use super::super::step::{Exception, Step};

fn nothing(_: &mut Cpu, _: &Op) -> Step {
    Ok(())
}

/// Caches need no flushing, but the address must be one that can be read.
fn touch(cpu: &mut Cpu, op: &Op) -> Step {
    let address = op.address(cpu);
    cpu.locate(address, Kind::Read, cpu.user).map(|_| ())
}

fn undefined(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise(Exception::INVALID_OPCODE)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Nop
        | Mnemonic::Reservednop
        | Mnemonic::Pause
        | Mnemonic::Endbr64
        | Mnemonic::Endbr32
        // Without shadow stacks these are no-operations.
        | Mnemonic::Rdsspd
        | Mnemonic::Rdsspq
        | Mnemonic::Prefetch
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetchwt1
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Cldemote
        | Mnemonic::Lfence
        | Mnemonic::Mfence
        | Mnemonic::Sfence => Some(nothing),
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => {
            operands::memory(instruction, op)?;
            Some(touch)
        }
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => Some(undefined),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::step::Stop;
    use super::super::super::testing::{CODE, DATA, interpreter, run};

    #[test]
    fn hints_change_nothing() {
        for code in [
            &[0x90][..],
            // nop word cs:[rax+rax], the longest one that assemblers use
            &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            // pause; endbr64; rdsspq rax
            &[0xf3, 0x90],
            &[0xf3, 0x0f, 0x1e, 0xfa],
            &[0xf3, 0x48, 0x0f, 0x1e, 0xc8],
            // prefetcht0 [rax], prefetchw [rax]: even of an address that does not exist
            &[0x0f, 0x18, 0x08],
            &[0x0f, 0x0d, 0x08],
            // lfence, mfence, sfence
            &[0x0f, 0xae, 0xe8],
            &[0x0f, 0xae, 0xf0],
            &[0x0f, 0xae, 0xf8],
            // clflush [rdi], clflushopt [rdi], clwb [rdi]
            &[0x0f, 0xae, 0x3f],
            &[0x66, 0x0f, 0xae, 0x3f],
            &[0x66, 0x0f, 0xae, 0x37],
        ] {
            let mut before = [0; 32];
            let cpu = run(code, |cpu| {
                (cpu.regs[0], cpu.regs[7]) = (1 << 40, DATA);
                before = cpu.regs;
            });
            assert_eq!((cpu.regs, cpu.flags.get()), (before, 2), "{code:x?}");
        }
    }

    #[test]
    fn flushing_what_is_not_there_faults() {
        // clflush [rax]
        let mut interpreter = interpreter(&[0x0f, 0xae, 0x38]);
        interpreter.cpu.regs[0] = 1 << 40;
        assert_eq!(interpreter.step(), Err(Stop::Fault));
        assert_eq!(interpreter.cpu.exception.and_then(|exception| exception.address), Some(1 << 40));
    }

    #[test]
    fn undefined_instructions_raise_their_exception() {
        // ud2; ud1 eax, [rax]
        for code in [&[0x0f, 0x0b][..], &[0x0f, 0xb9, 0x00]] {
            let mut interpreter = interpreter(code);
            assert_eq!(interpreter.step(), Err(Stop::Fault));
            assert_eq!(interpreter.cpu.exception.map(|exception| exception.vector), Some(6));
            assert_eq!(interpreter.cpu.rip, CODE);
        }
    }
}
