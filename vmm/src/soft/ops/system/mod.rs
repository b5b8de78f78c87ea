//! System instructions, one file for each group of them. In ring 3 most of them raise an exception.

mod cache;
mod control;
mod debug;
mod far;
mod gs;
mod hidden;
mod hypercall;
mod identify;
mod interrupt_flag;
mod iret;
mod msr;
mod port;
mod random;
mod segment;
mod selector;
mod software_interrupt;
mod syscall;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod xcr;

use iced_x86::{Instruction, Mnemonic};

use super::super::code::op::{Handler, Op};
use super::super::cpu::Cpu;
use super::super::step::{Step, Stop};

const GROUPS: [fn(&Instruction, &mut Op) -> Option<Handler>; 20] = [
    interrupt_flag::translate,
    control::translate,
    msr::translate,
    port::translate,
    gs::translate,
    syscall::translate,
    iret::translate,
    segment::translate,
    time::translate,
    cache::translate,
    identify::translate,
    software_interrupt::translate,
    table::translate,
    selector::translate,
    far::translate,
    xcr::translate,
    debug::translate,
    random::translate,
    hypercall::translate,
    hidden::translate,
];

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let blank = *op;
    GROUPS.iter().find_map(|group| {
        *op = blank;
        group(instruction, op)
    })
}

/// Whether a block must end with this instruction: it sets RIP itself.
pub(super) fn ends_block(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Sti
        | Mnemonic::Hlt
        | Mnemonic::Wrmsr
        | Mnemonic::Lmsw
        | Mnemonic::Invlpg
        | Mnemonic::Xsetbv => true,
        Mnemonic::Mov => control::ends_block(instruction) || segment::ends_block(instruction),
        _ => false,
    }
}

/// The end of an instruction that has changed something the interpreter must look at.
fn done(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = op.next_rip(cpu);
    Err(Stop::Done)
}

/// The end of an instruction that ends its block, where nobody needs to look at anything.
fn go_on(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = op.next_rip(cpu);
    Ok(())
}
