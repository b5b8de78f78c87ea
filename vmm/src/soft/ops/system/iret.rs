//! Return from a handler: iretq (Intel SDM volume 2A, "IRET").

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RSP};
use super::super::super::descriptors::requested_level;
use super::super::super::flags::{AC, DF, ID, IF, IOPL, NT, TF};
use super::super::super::mmu::walk::is_canonical;
use super::super::super::step::{Exception, Step, Stop};
use super::super::super::word::Word;

/// VIF and VIP.
const VIRTUAL: u64 = 3 << 19;

/// The flags other than the arithmetic ones that code of privilege `level` may load. RF is dropped: no breakpoint is ever
/// hit that it would keep from being hit again.
fn loadable(cpu: &Cpu) -> u64 {
    let interrupts = if cpu.has_io_privilege() { IF } else { 0 };
    let privileged = if cpu.user { 0 } else { IOPL | VIRTUAL };
    TF | DF | NT | AC | ID | interrupts | privileged
}

fn iretq(cpu: &mut Cpu, _: &Op) -> Step {
    if cpu.flags.rest() & NT != 0 {
        return cpu.protection();
    }
    let top = cpu.regs[usize::from(RSP)];
    if !is_canonical(top) || !is_canonical(top.wrapping_add(39)) {
        return cpu.raise(Exception::stack_fault(0));
    }
    let mut frame = [0; 5];
    for (at, word) in (0..).step_by(8).zip(&mut frame) {
        *word = cpu.read::<u64>(top.wrapping_add(at))?;
    }
    let [rip, code, flags, stack, stack_segment] = frame;
    let (code, stack_segment) = (u16::truncate(code), u16::truncate(stack_segment));
    let level = requested_level(code);
    let cs = cpu.code_segment(code, level)?;
    let long = cs.l == 1;
    let ss = cpu.stack_segment(stack_segment, level, long)?;
    let reachable = if long { is_canonical(rip) } else { rip <= cs.limit.into() };
    if !reachable {
        return cpu.protection();
    }
    let mask = loadable(cpu);
    cpu.flags.set_arithmetic(flags);
    cpu.flags.set_rest(mask, flags);
    (cpu.rip, cpu.regs[usize::from(RSP)]) = (rip, stack);
    (cpu.sregs.cs, cpu.sregs.ss) = (cs, ss);
    if level == 3 && !cpu.user {
        cpu.drop_kernel_segments();
        cpu.user = true;
    }
    cpu.system.nmi_blocked = false;
    Err(Stop::Done)
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    (instruction.code() == Code::Iretq).then_some(iretq)
}

#[cfg(test)]
mod tests;
