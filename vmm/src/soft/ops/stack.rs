//! The stack: push, pop, leave.

use iced_x86::{Code, Instruction, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RBP, RSP};
use super::super::step::Step;

const STACK: usize = RSP as usize;

#[inline(always)]
fn push(cpu: &mut Cpu, value: u64) -> Step {
    let stack = cpu.regs[STACK].wrapping_sub(8);
    cpu.write::<u64>(stack, value)?;
    cpu.regs[STACK] = stack;
    Ok(())
}

fn push_reg(cpu: &mut Cpu, op: &Op) -> Step {
    push(cpu, cpu.get::<u64>(op.dst))
}

fn push_imm(cpu: &mut Cpu, op: &Op) -> Step {
    push(cpu, op.imm)
}

fn push_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<u64>(op.address(cpu))?;
    push(cpu, value)
}

fn pop_reg(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK];
    let value = cpu.read::<u64>(stack)?;
    // First the stack pointer: `pop rsp` ends with what was popped.
    cpu.regs[STACK] = stack.wrapping_add(8);
    cpu.set::<u64>(op.dst, value);
    Ok(())
}

fn pop_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[STACK];
    let value = cpu.read::<u64>(stack)?;
    // An address relative to RSP is computed with its new value.
    cpu.regs[STACK] = stack.wrapping_add(8);
    let written = cpu.write::<u64>(op.address(cpu), value);
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

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Push_r64 => operands::dst(instruction, 0, op).map(|()| push_reg as Handler),
        Code::Pop_r64 => operands::dst(instruction, 0, op).map(|()| pop_reg as Handler),
        Code::Pushq_imm8 | Code::Pushq_imm32 => {
            op.imm = instruction.immediate(0);
            Some(push_imm)
        }
        Code::Push_rm64 | Code::Pop_rm64 => {
            let is_push = instruction.code() == Code::Push_rm64;
            if instruction.op_kind(0) == OpKind::Memory {
                operands::memory(instruction, op)?;
                return Some(if is_push { push_mem } else { pop_mem });
            }
            operands::dst(instruction, 0, op)?;
            Some(if is_push { push_reg } else { pop_reg })
        }
        Code::Leaveq => Some(leave),
        _ => None,
    }
}
