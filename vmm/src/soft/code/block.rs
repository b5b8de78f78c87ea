//! Decodes instructions up to the next one that may go elsewhere.

use std::sync::atomic::{Ordering, fence};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

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

/// Orders the accesses before it against those behind it. The guest's threads are one, but devices are others: a driver
/// that offers a buffer and then looks whether the device sleeps needs the host's CPU to do it in this order.
fn barrier(_: &mut Cpu, _: &Op) -> Step {
    fence(Ordering::SeqCst);
    Ok(())
}

/// What was decoded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Decoded {
    /// Bytes of code.
    pub(crate) len: usize,
    /// Accesses to memory that the instructions make when each runs once, string instructions counted as one.
    pub(crate) accesses: u16,
}

/// Decodes `bytes`, which are at `address`, into `ops`.
///
/// The last of them sets RIP. Stops before an instruction that is not complete; if that is the first one, the length is zero.
pub(crate) fn decode(bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> Decoded {
    decode_up_to(MAX_OPS, bytes, address, ops)
}

/// Decodes the one instruction that `bytes` starts with and returns its length, zero if it is not complete.
pub(crate) fn decode_one(bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> usize {
    decode_up_to(1, bytes, address, ops).len
}

fn decode_up_to(most: usize, bytes: &[u8], address: u64, ops: &mut Vec<Op>) -> Decoded {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let first = ops.len();
    let mut decoded = Decoded::default();
    while ops.len() - first < most && decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
            break;
        }
        let op = ops::translate(&instruction);
        ops.push(op);
        if ops::is_barrier(&instruction) {
            let mut after = op;
            after.run = barrier;
            ops.push(after);
        }
        decoded.len = decoder.position();
        decoded.accesses += accesses(&instruction);
        if is_branch(&instruction) {
            return decoded;
        }
        if ops::ends_block(&instruction) {
            break;
        }
    }
    if decoded.len > 0 {
        let next = address.wrapping_add(decoded.len as u64);
        let mut op = Op::at(next, 0);
        op.run = go_on;
        op.imm = next;
        ops.push(op);
    }
    decoded
}

fn accesses(instruction: &Instruction) -> u16 {
    let operands =
        (0..instruction.op_count()).filter(|operand| instruction.op_kind(*operand) == OpKind::Memory);
    u16::try_from(operands.count()).unwrap_or_default() + u16::from(instruction.is_stack_instruction())
}

/// Whether `instruction` sets RIP, or is none.
fn is_branch(instruction: &Instruction) -> bool {
    instruction.is_invalid() || instruction.flow_control() != FlowControl::Next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barriers(bytes: &[u8]) -> usize {
        let mut ops = Vec::new();
        assert_eq!(decode(bytes, 0x1000, &mut ops).len, bytes.len());
        ops.iter().filter(|op| std::ptr::fn_addr_eq(op.run, barrier as super::super::op::Handler)).count()
    }

    #[test]
    fn what_orders_accesses_for_other_threads_does_so_on_the_host() {
        for (name, bytes, expected) in [
            ("lock add dword [rsp-4], 0", &[0xf0, 0x83, 0x44, 0x24, 0xfc, 0][..], 1),
            ("add dword [rsp-4], 0", &[0x83, 0x44, 0x24, 0xfc, 0], 0),
            ("mfence", &[0x0f, 0xae, 0xf0], 1),
            ("xchg [rdi], eax", &[0x87, 0x07], 1),
            ("xchg eax, ecx", &[0x91], 0),
            (
                "lock cmpxchg [rdi], ecx; lock xadd [rdi], eax",
                &[0xf0, 0x0f, 0xb1, 0x0f, 0xf0, 0x0f, 0xc1, 0x07],
                2,
            ),
        ] {
            assert_eq!(barriers(bytes), expected, "{name}");
        }
    }
}
