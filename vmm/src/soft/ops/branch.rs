//! Jumps, calls and returns within a segment.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind};

use super::super::code::op::{Handler, Op};
use super::super::code::operands;
use super::super::cpu::{Cpu, RCX, RSP};
use super::super::mmu::walk::is_canonical;
use super::super::step::Step;
use super::condition::{conditional, number};

fn jump(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = op.imm;
    Ok(())
}

fn jump_if<const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = if cpu.flags.holds::<CONDITION>() { op.imm } else { op.disp };
    Ok(())
}

/// Goes to an address that was computed.
#[inline(always)]
fn jump_to(cpu: &mut Cpu, target: u64) -> Step {
    if !is_canonical(target) {
        return cpu.protection();
    }
    cpu.rip = target;
    Ok(())
}

fn jump_reg(cpu: &mut Cpu, op: &Op) -> Step {
    jump_to(cpu, cpu.get::<u64>(op.dst))
}

fn jump_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let target = cpu.read::<u64>(op.address(cpu))?;
    jump_to(cpu, target)
}

/// Pushes the return address and goes to `target`.
#[inline(always)]
fn call_to(cpu: &mut Cpu, target: u64, back: u64) -> Step {
    let stack = cpu.regs[usize::from(RSP)].wrapping_sub(8);
    if !is_canonical(target) {
        // The stack's fault comes first.
        cpu.modify::<u64>(stack, |_, value| value)?;
        return cpu.protection();
    }
    cpu.write::<u64>(stack, back)?;
    cpu.regs[usize::from(RSP)] = stack;
    cpu.rip = target;
    Ok(())
}

fn call(cpu: &mut Cpu, op: &Op) -> Step {
    call_to(cpu, op.imm, op.disp)
}

fn call_reg(cpu: &mut Cpu, op: &Op) -> Step {
    call_to(cpu, cpu.get::<u64>(op.dst), op.imm)
}

fn call_mem(cpu: &mut Cpu, op: &Op) -> Step {
    let target = cpu.read::<u64>(op.address(cpu))?;
    call_to(cpu, target, op.imm)
}

fn ret(cpu: &mut Cpu, op: &Op) -> Step {
    let stack = cpu.regs[usize::from(RSP)];
    let target = cpu.read::<u64>(stack)?;
    jump_to(cpu, target)?;
    cpu.regs[usize::from(RSP)] = stack.wrapping_add(8).wrapping_add(op.imm);
    Ok(())
}

fn jump_if_rcx_is_zero(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = if cpu.get::<u64>(RCX) == 0 { op.imm } else { op.disp };
    Ok(())
}

fn loop_while(cpu: &mut Cpu, op: &Op, condition: bool) -> Step {
    let count = cpu.get::<u64>(RCX).wrapping_sub(1);
    cpu.set::<u64>(RCX, count);
    cpu.rip = if count != 0 && condition { op.imm } else { op.disp };
    Ok(())
}

fn loop_always(cpu: &mut Cpu, op: &Op) -> Step {
    loop_while(cpu, op, true)
}

fn loop_if_zero(cpu: &mut Cpu, op: &Op) -> Step {
    loop_while(cpu, op, cpu.flags.zero())
}

fn loop_if_not_zero(cpu: &mut Cpu, op: &Op) -> Step {
    loop_while(cpu, op, !cpu.flags.zero())
}

/// Branches that name their target. An operand-size prefix makes no sense here and CPUs disagree about it.
fn near(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if instruction.op_kind(0) != OpKind::NearBranch64 {
        return None;
    }
    op.imm = instruction.near_branch64();
    op.disp = instruction.next_ip();
    Some(match instruction.flow_control() {
        FlowControl::UnconditionalBranch => jump,
        FlowControl::Call => call,
        _ => match instruction.code() {
            Code::Jrcxz_rel8_64 => jump_if_rcx_is_zero,
            Code::Loop_rel8_64_RCX => loop_always,
            Code::Loope_rel8_64_RCX => loop_if_zero,
            Code::Loopne_rel8_64_RCX => loop_if_not_zero,
            _ if instruction.is_jcc_short_or_near() => {
                conditional!(number(instruction)?, C => jump_if::<C>)
            }
            _ => return None,
        },
    })
}

fn indirect(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    op.imm = instruction.next_ip();
    let is_call = instruction.is_call_near_indirect();
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(if is_call { call_mem } else { jump_mem });
    }
    operands::dst(instruction, 0, op)?;
    Some(if is_call { call_reg } else { jump_reg })
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Jmp_rm64 | Code::Call_rm64 => return indirect(instruction, op),
        Code::Retnq => return Some(ret),
        Code::Retnq_imm16 => {
            op.imm = instruction.immediate(0);
            return Some(ret);
        }
        _ => {}
    }
    if instruction.mnemonic() == Mnemonic::Xbegin {
        return None;
    }
    near(instruction, op)
}
