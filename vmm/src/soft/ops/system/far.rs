//! Jumps, calls and returns to other code segments. Call gates are not supported: nobody has them in 64-bit mode.

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::{Cpu, RSP};
use super::super::super::descriptors::requested_level;
use super::super::super::mmu::walk::is_canonical;
use super::super::super::step::{Step, Stop};
use super::super::super::word::Word;

/// The far pointer that the memory operand holds, its offset of size `T`: the segment to go on in, and the address.
fn target<T: Word>(cpu: &mut Cpu, op: &Op) -> Step<(kvm_bindings::kvm_segment, u64)> {
    let address = op.address(cpu);
    let rip = cpu.read::<T>(address)?;
    let selector = cpu.read::<u16>(address.wrapping_add(size_of::<T>() as u64))?;
    let level = cpu.level();
    let selector = u16::truncate(selector);
    // A jump keeps its privilege level, whatever its selector requests.
    let segment = cpu.code_segment(selector, level)?;
    let reachable = if segment.l == 1 { is_canonical(rip) } else { rip <= segment.limit.into() };
    if !reachable {
        return cpu.protection();
    }
    Ok((segment, rip))
}

fn jump<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (segment, rip) = target::<T>(cpu, op)?;
    (cpu.sregs.cs, cpu.rip) = (segment, rip);
    Err(Stop::Done)
}

fn call<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (segment, rip) = target::<T>(cpu, op)?;
    let size = size_of::<T>() as u64;
    let stack = cpu.regs[usize::from(RSP)].wrapping_sub(2 * size);
    cpu.write::<T>(stack.wrapping_add(size), cpu.sregs.cs.selector.into())?;
    cpu.write::<T>(stack, op.next_rip(cpu))?;
    cpu.regs[usize::from(RSP)] = stack;
    (cpu.sregs.cs, cpu.rip) = (segment, rip);
    Err(Stop::Done)
}

fn ret<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let size = size_of::<T>() as u64;
    let top = cpu.regs[usize::from(RSP)];
    let rip = cpu.read::<T>(top)?;
    let selector = u16::truncate(cpu.read::<T>(top.wrapping_add(size))?);
    let level = requested_level(selector);
    let segment = cpu.code_segment(selector, level)?;
    let long = segment.l == 1;
    let reachable = if long { is_canonical(rip) } else { rip <= segment.limit.into() };
    if !reachable {
        return cpu.protection();
    }
    let behind = top.wrapping_add(2 * size).wrapping_add(op.imm);
    if level == cpu.level() {
        cpu.regs[usize::from(RSP)] = behind;
    } else {
        let stack = cpu.read::<T>(behind)?;
        let selector = u16::truncate(cpu.read::<T>(behind.wrapping_add(size))?);
        cpu.sregs.ss = cpu.stack_segment(selector, level, long)?;
        cpu.regs[usize::from(RSP)] = stack.wrapping_add(op.imm);
        cpu.drop_kernel_segments();
        cpu.user = true;
    }
    (cpu.sregs.cs, cpu.rip) = (segment, rip);
    Err(Stop::Done)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.code() {
        Code::Jmp_m1632 => jump::<u32>,
        Code::Jmp_m1664 => jump::<u64>,
        Code::Call_m1632 => call::<u32>,
        Code::Call_m1664 => call::<u64>,
        Code::Retfd => return Some(ret::<u32>),
        Code::Retfq => return Some(ret::<u64>),
        Code::Retfd_imm16 | Code::Retfq_imm16 => {
            op.imm = instruction.immediate(0);
            return Some(if instruction.code() == Code::Retfd_imm16 { ret::<u32> } else { ret::<u64> });
        }
        _ => return None,
    };
    operands::memory(instruction, op)?;
    Some(handler)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::RAX;
    use super::super::super::super::testing::tables::{
        KERNEL_CODE, KERNEL_DATA, LOCAL_TABLE, START_STACK, USER_CODE, USER_DATA, run_badly, run_one, stack,
    };
    use super::super::super::super::testing::{CODE, DATA};
    use super::*;

    const JUMP: &[u8] = &[0x48, 0xff, 0x28];
    const CALL: &[u8] = &[0x48, 0xff, 0x18];
    const RETURN: &[u8] = &[0x48, 0xcb];

    fn pointer(cpu: &mut Cpu, selector: u16, rip: u64) {
        cpu.regs[usize::from(RAX)] = DATA;
        cpu.write::<u64>(DATA, rip).unwrap();
        cpu.write::<u16>(DATA + 8, selector.into()).unwrap();
    }

    fn push(cpu: &mut Cpu, words: &[u64]) {
        let top = START_STACK - 8 * words.len() as u64;
        for (at, word) in (top..).step_by(8).zip(words) {
            cpu.write::<u64>(at, *word).unwrap();
        }
        cpu.regs[usize::from(RSP)] = top;
    }

    #[test]
    fn a_jump_changes_the_segment() {
        let (cpu, result) = run_one(JUMP, |cpu| {
            cpu.sregs.cs.selector = 0;
            pointer(cpu, KERNEL_CODE, 0x1234);
        });
        assert_eq!((result, cpu.rip, cpu.sregs.cs.selector), (Err(Stop::Done), 0x1234, KERNEL_CODE));
        let (cpu, result) =
            run_one(&[0xff, 0x28], |cpu| pointer(cpu, 7, u64::from(KERNEL_CODE) << 32 | 0x1234));
        assert_eq!((result, cpu.rip), (Err(Stop::Done), 0x1234), "with a 32-bit offset");
    }

    #[test]
    fn a_call_comes_back_by_a_far_return() {
        let (mut cpu, result) = run_one(CALL, |cpu| pointer(cpu, KERNEL_CODE, 0x1234));
        assert_eq!((result, cpu.rip), (Err(Stop::Done), 0x1234));
        assert_eq!(stack(&mut cpu), [CODE + 3, KERNEL_CODE.into()]);
        let (cpu, result) = run_one(RETURN, |cpu| push(cpu, &[0x4321, KERNEL_CODE.into()]));
        assert_eq!((result, cpu.rip, cpu.regs[usize::from(RSP)]), (Err(Stop::Done), 0x4321, START_STACK));
        // retfq 8
        let (cpu, _) = run_one(&[0x48, 0xca, 8, 0], |cpu| push(cpu, &[0x4321, KERNEL_CODE.into(), 0]));
        assert_eq!(cpu.regs[usize::from(RSP)], START_STACK);
    }

    #[test]
    fn a_return_may_leave_the_kernel() {
        let (cpu, result) =
            run_one(RETURN, |cpu| push(cpu, &[0x4321, USER_CODE.into(), 0x7000, USER_DATA.into()]));
        assert_eq!((result, cpu.user, cpu.rip), (Err(Stop::Done), true, 0x4321));
        assert_eq!((cpu.regs[usize::from(RSP)], cpu.sregs.ss.selector), (0x7000, USER_DATA));
        let stays =
            run_badly(RETURN, |cpu| push(cpu, &[0x4321, USER_CODE.into(), 0x7000, KERNEL_DATA.into()]));
        assert_eq!(stays, (13, Some(KERNEL_DATA.into())));
    }

    #[test]
    fn what_is_no_code_of_this_level_is_refused() {
        for (selector, rip, error_code) in [
            (0, 0x1234, 0),
            (KERNEL_DATA, 0x1234, KERNEL_DATA),
            (LOCAL_TABLE, 0x1234, LOCAL_TABLE),
            (USER_CODE, 0x1234, USER_CODE & !3),
            (KERNEL_CODE, 1 << 47, 0),
        ] {
            for code in [JUMP, CALL] {
                let raised = run_badly(code, |cpu| pointer(cpu, selector, rip));
                assert_eq!(raised, (13, Some(error_code.into())), "{selector:#x}:{rip:#x}");
            }
        }
    }
}
