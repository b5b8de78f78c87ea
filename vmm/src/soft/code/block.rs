//! Decodes instructions up to the next one that may go elsewhere.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use super::super::cpu::Cpu;
use super::super::ops;
use super::super::step::Step;
use super::op::Op;

/// Most instructions in a block.
const MAX_OPS: usize = 32;

/// Goes on at the address in `imm`: the end of a block that has no branch.
fn go_on(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.rip = op.imm;
    Ok(())
}

/// Decodes `bytes`, which are at `address`, into `ops`, and returns how many of the bytes they are.
///
/// The last of them sets RIP. Stops before an instruction that is not complete; if that is the first one, the result is zero.
pub(crate) fn decode(bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> usize {
    decode_up_to(MAX_OPS, bytes, address, ops)
}

/// Decodes the one instruction that `bytes` starts with and returns its length, zero if it is not complete.
pub(crate) fn decode_one(bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> usize {
    decode_up_to(1, bytes, address, ops)
}

fn decode_up_to(most: usize, bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> usize {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let first = ops.len();
    let mut used = 0;
    while ops.len() - first < most && decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
            break;
        }
        let op = ops::translate(&instruction);
        ops.push(op);
        used = decoder.position();
        if ends_block(&instruction) {
            return used;
        }
    }
    if used > 0 {
        let next = address.wrapping_add(used as u64);
        let mut op = Op::at(next, 0);
        op.run = go_on;
        op.imm = next;
        ops.push(op);
    }
    used
}

/// Whether nothing may follow `instruction` in a block: it sets RIP, or changes how what follows is to be read.
fn ends_block(instruction: &Instruction) -> bool {
    instruction.is_invalid()
        || instruction.flow_control() != FlowControl::Next
        || ops::ends_block(instruction)
}
