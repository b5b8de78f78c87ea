//! The first element, of a register or in memory, in all places of a register.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::super::super::word::Word;
use super::memory::read_16;
use super::operands::{last, unary};
use super::registers::{get_number, ready, set};

fn broadcast<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = if MEMORY { cpu.read::<T>(op.address(cpu))? } else { get_number(cpu, last(op))? & T::MASK };
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
    let [register, memory]: [Handler; 2] = match instruction.mnemonic() {
        Mnemonic::Vpbroadcastb => [broadcast::<u8, false>, broadcast::<u8, true>],
        Mnemonic::Vpbroadcastw => [broadcast::<u16, false>, broadcast::<u16, true>],
        Mnemonic::Vpbroadcastd | Mnemonic::Vbroadcastss => [broadcast::<u32, false>, broadcast::<u32, true>],
        Mnemonic::Vpbroadcastq | Mnemonic::Vbroadcastsd => [broadcast::<u64, false>, broadcast::<u64, true>],
        Mnemonic::Vbroadcasti128 | Mnemonic::Vbroadcastf128 => [broadcast_half; 2],
        _ => return None,
    };
    Some(if unary(instruction, op)? { memory } else { register })
}
