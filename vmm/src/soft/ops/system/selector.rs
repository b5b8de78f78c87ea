//! Asking about a selector without loading it: verr, verw, lar, lsl. ZF says whether there is an answer.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::descriptors::{Descriptor, requested_level};
use super::super::super::step::Step;
use super::super::super::word::Word;

/// Types of system descriptors that LAR answers for in 64-bit mode: local table, task state segment (idle, busy), call
/// gate. LSL has no answer for the last.
const LAR_TYPES: [u8; 4] = [2, 9, 11, 12];
const LSL_TYPES: [u8; 3] = [2, 9, 11];
/// What LAR gives of a descriptor's upper half.
const ACCESS_RIGHTS: u64 = 0x00f0_ff00;

trait Question: 'static {
    /// The answer for a descriptor that the code may know of; `None` if there is none.
    fn answer(descriptor: Descriptor) -> Option<u64>;
    /// Whether the answer goes to a register.
    const GIVES: bool;
}

struct AccessRights;
impl Question for AccessRights {
    const GIVES: bool = true;
    fn answer(descriptor: Descriptor) -> Option<u64> {
        let is_known = descriptor.is_segment() || LAR_TYPES.contains(&descriptor.type_());
        is_known.then_some(descriptor.0 >> 32 & ACCESS_RIGHTS)
    }
}

struct Limit;
impl Question for Limit {
    const GIVES: bool = true;
    fn answer(descriptor: Descriptor) -> Option<u64> {
        let is_known = descriptor.is_segment() || LSL_TYPES.contains(&descriptor.type_());
        is_known.then_some(descriptor.limit().into())
    }
}

struct Readable;
impl Question for Readable {
    const GIVES: bool = false;
    fn answer(descriptor: Descriptor) -> Option<u64> {
        descriptor.is_readable().then_some(0)
    }
}

struct Writable;
impl Question for Writable {
    const GIVES: bool = false;
    fn answer(descriptor: Descriptor) -> Option<u64> {
        descriptor.is_writable().then_some(0)
    }
}

fn ask<Q: Question, T: Word>(cpu: &mut Cpu, op: &Op, selector: u64) -> Step {
    let selector = u16::truncate(selector);
    let level = cpu.level().max(requested_level(selector));
    let found = cpu.descriptor(selector)?.map(|found| found.descriptor);
    let known = found.filter(|descriptor| descriptor.is_conforming() || level <= descriptor.level());
    let answer = known.and_then(Q::answer);
    cpu.flags.set_zero(answer.is_some());
    if let (Some(answer), true) = (answer, Q::GIVES) {
        cpu.set::<T>(op.dst, answer);
    }
    Ok(())
}

fn ask_reg<Q: Question, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let selector = cpu.get::<u16>(op.src);
    ask::<Q, T>(cpu, op, selector)
}

fn ask_mem<Q: Question, T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let selector = cpu.read::<u16>(op.address(cpu))?;
    ask::<Q, T>(cpu, op, selector)
}

fn question<Q: Question, T: Word>(instruction: &Instruction, op: &mut Op, operand: u32) -> Option<Handler> {
    if operand > 0 {
        operands::dst(instruction, 0, op)?;
    }
    if instruction.op_kind(operand) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(ask_mem::<Q, T>);
    }
    operands::src(instruction, operand, op)?;
    Some(ask_reg::<Q, T>)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Lar_r16_rm16 => question::<AccessRights, u16>(instruction, op, 1),
        Code::Lar_r32_r32m16 => question::<AccessRights, u32>(instruction, op, 1),
        Code::Lar_r64_r64m16 => question::<AccessRights, u64>(instruction, op, 1),
        Code::Lsl_r16_rm16 => question::<Limit, u16>(instruction, op, 1),
        Code::Lsl_r32_r32m16 => question::<Limit, u32>(instruction, op, 1),
        Code::Lsl_r64_r64m16 => question::<Limit, u64>(instruction, op, 1),
        _ => match instruction.mnemonic() {
            Mnemonic::Verr => question::<Readable, u16>(instruction, op, 0),
            Mnemonic::Verw => question::<Writable, u16>(instruction, op, 0),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::{RAX, RBX};
    use super::super::super::super::testing::DATA;
    use super::super::super::super::testing::tables::{
        ABSENT_CODE, KERNEL_CODE, KERNEL_DATA, TASK, USER_CODE, USER_DATA, enter_ring3, run_well,
    };

    /// <question> (ebx,) ax
    const VERR: &[u8] = &[0x0f, 0x00, 0xe0];
    const VERW: &[u8] = &[0x0f, 0x00, 0xe8];
    const LAR: &[u8] = &[0x0f, 0x02, 0xd8];
    const LSL: &[u8] = &[0x0f, 0x03, 0xd8];
    const NOTHING: u64 = 0x5555;

    fn ask(code: &[u8], selector: u16, user: bool) -> (bool, u64) {
        let cpu = run_well(code, |cpu| {
            cpu.regs[usize::from(RAX)] = selector.into();
            cpu.regs[usize::from(RBX)] = NOTHING;
            if user {
                enter_ring3(cpu);
            }
        });
        (cpu.flags.zero(), cpu.regs[usize::from(RBX)])
    }

    #[test]
    fn answers_follow_from_the_descriptor() {
        for (code, selector, user, expected) in [
            (VERR, KERNEL_CODE, false, (true, NOTHING)),
            (VERW, KERNEL_CODE, false, (false, NOTHING)),
            (VERW, KERNEL_DATA, false, (true, NOTHING)),
            (VERR, KERNEL_DATA, true, (false, NOTHING)),
            (VERW, USER_DATA, true, (true, NOTHING)),
            (VERR, 0, false, (false, NOTHING)),
            (VERR, TASK, false, (false, NOTHING)),
            (LAR, KERNEL_CODE, false, (true, 0x00a0_9b00)),
            (LAR, USER_CODE, true, (true, 0x00a0_fb00)),
            (LAR, KERNEL_DATA | 3, false, (false, NOTHING)),
            (LAR, ABSENT_CODE, false, (true, 0x00a0_1b00)),
            (LAR, TASK, false, (true, 0x8b00)),
            (LSL, TASK, false, (true, 0x67)),
            (LSL, USER_DATA, true, (true, 0xffff_ffff)),
            (LSL, 0xfff8, false, (false, NOTHING)),
        ] {
            assert_eq!(ask(code, selector, user), expected, "{code:x?} {selector:#x}");
        }
    }

    #[test]
    fn the_selector_may_be_in_memory() {
        let cpu = run_well(&[0x0f, 0x00, 0x28], |cpu| {
            cpu.regs[usize::from(RAX)] = DATA;
            cpu.write::<u16>(DATA, KERNEL_DATA.into()).unwrap();
        });
        assert!(cpu.flags.zero());
    }
}
