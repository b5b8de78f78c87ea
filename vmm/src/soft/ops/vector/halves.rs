//! Halves of 256-bit registers: inserted, extracted, picked.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::memory;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::{both_operands, read_16, write_16};
use super::operands::{binary, encoding, immediate, is_memory, last, register, trailing_immediate};
use super::registers::{get_low, get_whole, ready, set, set_low};

fn insert(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = if is_memory(op) { read_16(cpu, op.address(cpu))? } else { get_low(cpu, last(op))? };
    let mut halves = get_whole(cpu, op.src)?;
    halves[usize::from(immediate(op) & 1)] = value;
    set(cpu, op, op.dst, halves)
}

fn extract(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let halves = get_whole(cpu, op.src)?;
    set_low(cpu, op, op.dst, halves[usize::from(immediate(op) & 1)])
}

fn extract_to_memory(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let halves = get_whole(cpu, op.src)?;
    write_16(cpu, op.address(cpu), halves[usize::from(immediate(op) & 1)])
}

/// Each half is one of the four of both operands, or zero.
fn pick(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = both_operands(cpu, op)?;
    let halves = [a[0], a[1], b[0], b[1]];
    let half = |control: u8| if control & 8 != 0 { 0 } else { halves[usize::from(control & 3)] };
    set(cpu, op, op.dst, [half(immediate(op)), half(immediate(op) >> 4)])
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Vinserti128 | Mnemonic::Vinsertf128 => {
            binary(instruction, op)?;
            Some(insert)
        }
        Mnemonic::Vperm2i128 | Mnemonic::Vperm2f128 => {
            binary(instruction, op)?;
            Some(pick)
        }
        Mnemonic::Vextracti128 | Mnemonic::Vextractf128 => {
            encoding(instruction, op);
            trailing_immediate(instruction, op);
            op.src = register(instruction.op_register(1))?;
            if instruction.op_kind(0) == OpKind::Memory {
                memory(instruction, op)?;
                return Some(extract_to_memory);
            }
            op.dst = register(instruction.op_register(0))?;
            Some(extract)
        }
        _ => None,
    }
}
