//! The first element, of a register or in memory, in all places of a register.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::memory::read_16;
use super::operands::{is_memory, last, unary};
use super::registers::{get_number, ready, set};

fn broadcast<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value =
        if is_memory(op) { cpu.read::<T>(op.address(cpu))? } else { get_number(cpu, last(op))? & T::MASK };
    // A one in each lane.
    let ones = u128::MAX / u128::from(T::MASK);
    set(cpu, op, op.dst, [u128::from(value) * ones; 2])
}

/// 128 bits from memory in both halves.
fn broadcast_half(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = read_16(cpu, op.address(cpu))?;
    set(cpu, op, op.dst, [value; 2])
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Vpbroadcastb => broadcast::<u8>,
        Mnemonic::Vpbroadcastw => broadcast::<u16>,
        Mnemonic::Vpbroadcastd | Mnemonic::Vbroadcastss => broadcast::<u32>,
        Mnemonic::Vpbroadcastq | Mnemonic::Vbroadcastsd => broadcast::<u64>,
        Mnemonic::Vbroadcasti128 | Mnemonic::Vbroadcastf128 => broadcast_half,
        _ => return None,
    };
    unary(instruction, op)?;
    Some(handler)
}
