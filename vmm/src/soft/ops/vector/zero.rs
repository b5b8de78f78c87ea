//! Clearing all vector registers, or what they have above 128 bits.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::operands::encoding;
use super::registers::{clear_all, ready};

fn clear<const LOW: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    clear_all(cpu, LOW)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    encoding(instruction, op);
    match instruction.mnemonic() {
        Mnemonic::Vzeroupper => Some(clear::<false>),
        Mnemonic::Vzeroall => Some(clear::<true>),
        _ => None,
    }
}
