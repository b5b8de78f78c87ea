//! The stack: push, pop, enter, leave.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RBP, RSP};
use super::super::mmu::tlb::Kind;
use super::super::step::Step;
use super::super::word::Word;

const STACK: usize = RSP as usize;

#[inline(always)]
fn push<T: Word>(cpu: &mut Cpu, value: u64) -> Step {
    let stack = cpu.regs[STACK].wrapping_sub(size_of::<T>() as u64);
    cpu.write::<T>(stack, value)?;
    cpu.regs[STACK] = stack;
    Ok(())
}

fn push_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    push::<T>(cpu, cpu.get::<T>(op.dst))
}

fn push_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    push::<T>(cpu, op.imm)
}

fn push_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(op.address(cpu))?;
    push::<T>(cpu, value)
}

fn pop_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK];
    let value = cpu.read::<T>(stack)?;
    // First the stack pointer: `pop rsp` ends with what was popped.
    cpu.regs[STACK] = stack.wrapping_add(size_of::<T>() as u64);
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn pop_mem<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK];
    let value = cpu.read::<T>(stack)?;
    // An address relative to RSP is computed with its new value.
    cpu.regs[STACK] = stack.wrapping_add(size_of::<T>() as u64);
    let written = cpu.write::<T>(op.address(cpu), value);
    if written.is_err() {
        cpu.regs[STACK] = stack;
    }
    written
}

fn leave(cpu: &mut Cpu, _: &Op) -> Step {
    let frame = cpu.regs[usize::from(RBP)];
    let value = cpu.read::<u64>(frame)?;
    cpu.regs[STACK] = frame.wrapping_add(8);
    cpu.regs[usize::from(RBP)] = value;
    Ok(())
}

/// Makes a stack frame of `op.imm` bytes that also points to the `op.disp` frames around it.
fn enter(cpu: &mut Cpu, op: &Op) -> Step {
    let outer = cpu.regs[usize::from(RBP)];
    let frame = cpu.regs[STACK].wrapping_sub(8);
    cpu.write::<u64>(frame, outer)?;
    let mut stack = frame;
    for level in 1..=op.disp {
        // The last one is the new frame itself.
        let link = if level == op.disp { frame } else { cpu.read::<u64>(outer.wrapping_sub(8 * level))? };
        stack = stack.wrapping_sub(8);
        cpu.write::<u64>(stack, link)?;
    }
    let stack = stack.wrapping_sub(op.imm);
    cpu.locate(stack, Kind::Write, cpu.user)?;
    cpu.regs[STACK] = stack;
    cpu.regs[usize::from(RBP)] = frame;
    Ok(())
}

/// A push or pop of size `T`.
fn push_or_pop<T: Word>(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let is_push = instruction.mnemonic() == Mnemonic::Push;
    if operands::is_immediate(instruction, 0) {
        op.imm = instruction.immediate(0);
        return Some(push_imm::<T>);
    }
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(if is_push { push_mem::<T> } else { pop_mem::<T> });
    }
    operands::dst(instruction, 0, op)?;
    Some(if is_push { push_reg::<T> } else { pop_reg::<T> })
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Push_r64
        | Code::Push_rm64
        | Code::Pushq_imm8
        | Code::Pushq_imm32
        | Code::Pop_r64
        | Code::Pop_rm64 => push_or_pop::<u64>(instruction, op),
        Code::Push_r16
        | Code::Push_rm16
        | Code::Pushw_imm8
        | Code::Push_imm16
        | Code::Pop_r16
        | Code::Pop_rm16 => push_or_pop::<u16>(instruction, op),
        Code::Leaveq => Some(leave),
        Code::Enterq_imm16_imm8 => {
            op.imm = instruction.immediate(0);
            op.disp = u64::from(instruction.immediate8_2nd()) % 32;
            Some(enter)
        }
        _ => None,
    }
}
#[cfg(test)]
mod tests {
    use super::super::super::step::Stop;
    use super::super::super::testing::{STACK as TOP, interpreter, run};
    use super::super::testing::{load, store};
    use super::*;

    #[test]
    fn the_stack_pointer_can_be_pushed_and_popped() {
        // push rsp; pop rax; push rsp; pop rsp; push qword [rsp-8]; pop qword [rsp]
        let code = [0x54, 0x58, 0x54, 0x5c, 0xff, 0x74, 0x24, 0xf8, 0x8f, 0x04, 0x24];
        let cpu = run(&code, |_| {});
        assert_eq!((cpu.regs[0], cpu.regs[STACK]), (TOP, TOP));
        // The operand of the last pop is addressed with the stack pointer behind what was popped.
        assert_eq!((load::<u64>(&cpu, TOP - 8), load::<u64>(&cpu, TOP)), (TOP, TOP));
    }

    #[test]
    fn frames_are_made_and_left() {
        // enter 16, 0; leave
        let frame = |code: &[u8]| run(code, |cpu| cpu.regs[usize::from(RBP)] = 5);
        let cpu = frame(&[0xc8, 16, 0, 0]);
        assert_eq!((cpu.regs[STACK], cpu.regs[usize::from(RBP)]), (TOP - 24, TOP - 8));
        assert_eq!(load::<u64>(&cpu, TOP - 8), 5);
        let cpu = frame(&[0xc8, 16, 0, 0, 0xc9]);
        assert_eq!((cpu.regs[STACK], cpu.regs[usize::from(RBP)]), (TOP, 5));
    }

    #[test]
    fn nested_frames_point_to_those_around_them() {
        // enter 8, 3, whose frame pointer has two links below it
        let cpu = run(&[0xc8, 8, 0, 3], |cpu| {
            cpu.regs[usize::from(RBP)] = TOP + 0x100;
            store(cpu, TOP + 0xf8, 11u64);
            store(cpu, TOP + 0xf0, 22u64);
        });
        let links = [8, 16, 24, 32].map(|below| load::<u64>(&cpu, TOP - below));
        assert_eq!(links, [TOP + 0x100, 11, 22, TOP - 8]);
        assert_eq!((cpu.regs[STACK], cpu.regs[usize::from(RBP)]), (TOP - 40, TOP - 8));
    }

    #[test]
    fn a_push_that_faults_moves_nothing() {
        // push rax; pop qword [rax]; call rax; enter 8, 1, each with a stack that is not there
        for code in [&[0x50][..], &[0x8f, 0x00], &[0xff, 0xd0], &[0xc8, 8, 0, 1]] {
            let mut interpreter = interpreter(code);
            interpreter.cpu.regs[STACK] = 1 << 40;
            let before = interpreter.cpu.regs;
            assert_eq!(interpreter.step(), Err(Stop::Fault));
            assert_eq!(interpreter.cpu.regs, before);
        }
        // pop qword [rax] whose destination is not there
        let mut interpreter = interpreter(&[0x8f, 0x00]);
        interpreter.cpu.regs[0] = 1 << 40;
        assert_eq!(interpreter.step(), Err(Stop::Fault));
        assert_eq!(interpreter.cpu.regs[STACK], TOP);
    }
}
