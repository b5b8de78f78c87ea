//! Registers and memory that an instruction uses without naming them, so that it mostly does something.

use iced_x86::{Instruction, Mnemonic};

use super::layout::DATA;
use super::operands::branch_target;
use super::random::Random;
use super::targets;
use crate::soft::cpu::{RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
use crate::soft::flags::{AC, TF};

type Registers = [u64; 16];
type Memory = Vec<(u64, u64)>;

/// Before the explicit operands are made. `at` is where the instruction is.
pub(super) fn implicit(
    instruction: &Instruction,
    regs: &mut Registers,
    memory: &mut Memory,
    random: &mut Random,
    at: u64,
) {
    if instruction.is_string_instruction() {
        regs[usize::from(RSI)] = targets::linear(random, 8);
        regs[usize::from(RDI)] = string_destination(regs, random);
        regs[usize::from(RCX)] = match random.below(10) {
            0 => 0,
            1 => random.below(0x2000),
            2 => random.below(0x400),
            _ => random.below(40),
        };
        prepare_string(regs, memory, random);
        return;
    }
    match instruction.mnemonic() {
        Mnemonic::Shl
        | Mnemonic::Shr
        | Mnemonic::Sar
        | Mnemonic::Rol
        | Mnemonic::Ror
        | Mnemonic::Rcl
        | Mnemonic::Rcr
        | Mnemonic::Shld
        | Mnemonic::Shrd
            if random.chance(80) =>
        {
            regs[usize::from(RCX)] = random.next() & !0xff | random.below(70);
        }
        Mnemonic::Div if random.chance(80) => regs[usize::from(RDX)] = random.below(16),
        Mnemonic::Idiv if random.chance(80) => {
            let sign = regs[usize::from(RAX)].cast_signed() >> 63;
            regs[usize::from(RDX)] = sign.cast_unsigned().wrapping_add(random.below(3)).wrapping_sub(1);
        }
        Mnemonic::Xlatb => {
            regs[usize::from(RBX)] = targets::linear(random, 1).wrapping_sub(regs[usize::from(RAX)] & 0xff);
        }
        Mnemonic::Leave => regs[usize::from(RBP)] = targets::linear(random, 8),
        Mnemonic::Push | Mnemonic::Pushfq | Mnemonic::Call | Mnemonic::Enter => {
            regs[usize::from(RSP)] = targets::linear(random, 8).wrapping_add(8);
            regs[usize::from(RBP)] = targets::linear(random, 8).wrapping_add(8);
        }
        Mnemonic::Pop => regs[usize::from(RSP)] = targets::linear(random, 8),
        Mnemonic::Popfq => {
            // Not where there is code, which cannot be replaced.
            let stack = targets::linear(random, 8) | DATA;
            regs[usize::from(RSP)] = stack;
            // Neither single steps nor alignment checks.
            memory.push((stack, random.next() & !TF & !AC));
        }
        Mnemonic::Ret => {
            let stack = targets::linear(random, 8);
            regs[usize::from(RSP)] = stack;
            memory.push((stack, branch_target(random, at, at + 16)));
        }
        Mnemonic::Pcmpestri
        | Mnemonic::Pcmpestrm
        | Mnemonic::Pcmpestri64
        | Mnemonic::Pcmpestrm64
        | Mnemonic::Vpcmpestri
        | Mnemonic::Vpcmpestrm
        | Mnemonic::Vpcmpestri64
        | Mnemonic::Vpcmpestrm64
            if random.chance(80) =>
        {
            // Lengths, which may be negative.
            regs[usize::from(RAX)] = random.below(40).wrapping_sub(20);
            regs[usize::from(RDX)] = random.below(40).wrapping_sub(20);
        }
        Mnemonic::Jrcxz | Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne if random.chance(60) => {
            regs[usize::from(RCX)] = random.below(3);
        }
        _ => {}
    }
}

/// Often where the source is, a few bytes away.
fn string_destination(regs: &Registers, random: &mut Random) -> u64 {
    if random.chance(40) {
        return regs[usize::from(RSI)].wrapping_add(random.below(40)).wrapping_sub(20);
    }
    targets::linear(random, 8)
}

/// Runs of bytes that are the same, for comparisons that go on for a while.
fn prepare_string(regs: &mut Registers, memory: &mut Memory, random: &mut Random) {
    if !random.chance(60) {
        return;
    }
    let word = random.pick(&[0, u64::MAX, 0x0101_0101_0101_0101, 0x8080_8080_8080_8080]);
    let (source, destination) = (regs[usize::from(RSI)], regs[usize::from(RDI)]);
    for index in 0..random.below(8) {
        memory.push((source.wrapping_add(index * 8), word));
        memory.push((destination.wrapping_add(index * 8), word));
    }
    if random.chance(50) {
        regs[usize::from(RAX)] = word;
    }
}

/// What the memory operand at `target` holds.
pub(super) fn content(
    instruction: &Instruction,
    regs: &mut Registers,
    memory: &mut Memory,
    random: &mut Random,
    target: u64,
    at: u64,
) {
    match instruction.mnemonic() {
        Mnemonic::Jmp | Mnemonic::Call => memory.push((target, branch_target(random, at, at + 16))),
        Mnemonic::Cmpxchg if random.chance(50) => memory.push((target, regs[usize::from(RAX)])),
        Mnemonic::Cmpxchg8b if random.chance(60) => {
            let low = regs[usize::from(RAX)] & 0xffff_ffff;
            memory.push((target, low | regs[usize::from(RDX)] << 32));
        }
        Mnemonic::Cmpxchg16b if random.chance(60) => {
            memory.push((target, regs[usize::from(RAX)]));
            memory.push((target.wrapping_add(8), regs[usize::from(RDX)]));
        }
        _ if instruction.memory_size().size() >= 16 && random.chance(70) => {
            for offset in (0..instruction.memory_size().size() as u64).step_by(8) {
                memory.push((target.wrapping_add(offset), random.vector_word()));
            }
        }
        _ if random.chance(70) => memory.push((target, random.operand())),
        _ => {}
    }
}
