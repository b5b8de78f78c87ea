//! Gives an instruction operands.

use iced_x86::{Instruction, OpCodeOperandKind as Kind, OpKind, Register};

use super::forms::{Form, is_register_or_memory};
use super::layout::{CODE, CODE_LEN, FS_BASE, GS_BASE};
use super::random::Random;

const BYTE_REGISTERS: [Register; 20] = {
    use Register::*;
    [AL, CL, DL, BL, SPL, BPL, SIL, DIL, R8L, R9L, R10L, R11L, R12L, R13L, R14L, R15L, AH, CH, DH, BH]
};

/// Any general register of a size in bytes.
pub(super) fn register(random: &mut Random, size: u32) -> Register {
    let number = u32::try_from(random.below(16)).expect("small");
    match size {
        1 => random.pick(&BYTE_REGISTERS),
        2 => Register::AX + number,
        4 => Register::EAX + number,
        _ => Register::RAX + number,
    }
}

/// The number of any vector register.
fn vector_register(random: &mut Random) -> u32 {
    u32::try_from(random.below(16)).expect("small")
}

/// The number of a general register, as instructions encode it.
pub(super) fn number(register: Register) -> usize {
    register.full_register().number()
}

/// A place in the code pages where no code is.
pub(super) fn branch_target(random: &mut Random, start: u64, end: u64) -> u64 {
    loop {
        let target = CODE + random.below(CODE_LEN);
        if !(start..end).contains(&target) {
            return target;
        }
    }
}

/// Sets all operands of a form but for its memory operand, which [`address`] sets. `near` is an address that the instruction
/// is near to, and that short branches must reach the neighbourhood of.
pub(super) fn fill(instruction: &mut Instruction, form: Form, random: &mut Random, near: u64) {
    let info = form.code.op_code();
    for (operand, kind) in (0..).zip(info.op_kinds()) {
        let kind = *kind;
        if is_register_or_memory(kind) && form.memory || matches!(kind, Kind::mem | Kind::mem_offs) {
            instruction.set_op_kind(operand, OpKind::Memory);
            continue;
        }
        let fixed = match kind {
            Kind::xmm_or_mem | Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_vvvv | Kind::xmm_is4 => {
                Some(Register::XMM0 + vector_register(random))
            }
            Kind::ymm_or_mem | Kind::ymm_reg | Kind::ymm_rm | Kind::ymm_vvvv | Kind::ymm_is4 => {
                Some(Register::YMM0 + vector_register(random))
            }
            Kind::r8_or_mem | Kind::r8_reg | Kind::r8_opcode => Some(register(random, 1)),
            Kind::r16_or_mem | Kind::r16_reg | Kind::r16_opcode => Some(register(random, 2)),
            Kind::r32_or_mem | Kind::r32_reg | Kind::r32_opcode | Kind::r32_vvvv => Some(register(random, 4)),
            Kind::r64_or_mem | Kind::r64_reg | Kind::r64_opcode | Kind::r64_vvvv => Some(register(random, 8)),
            Kind::al => Some(Register::AL),
            Kind::cl => Some(Register::CL),
            Kind::ax => Some(Register::AX),
            Kind::eax => Some(Register::EAX),
            Kind::rax => Some(Register::RAX),
            _ => None,
        };
        if let Some(register) = fixed {
            instruction.set_op_kind(operand, OpKind::Register);
            instruction.set_op_register(operand, register);
            continue;
        }
        implicit_or_immediate(instruction, operand, kind, random, near);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "immediates are the low bits of what was drawn")]
fn implicit_or_immediate(
    instruction: &mut Instruction,
    operand: u32,
    kind: Kind,
    random: &mut Random,
    near: u64,
) {
    let op_kind = match kind {
        Kind::imm8 if operand == 1 && instruction.op_kind(0) == OpKind::Immediate16 => OpKind::Immediate8_2nd,
        Kind::imm8 | Kind::imm8_const_1 => OpKind::Immediate8,
        Kind::imm8sex16 => OpKind::Immediate8to16,
        Kind::imm8sex32 => OpKind::Immediate8to32,
        Kind::imm8sex64 => OpKind::Immediate8to64,
        Kind::imm16 => OpKind::Immediate16,
        Kind::imm32 => OpKind::Immediate32,
        Kind::imm32sex64 => OpKind::Immediate32to64,
        Kind::imm64 => OpKind::Immediate64,
        Kind::seg_rSI => OpKind::MemorySegRSI,
        Kind::es_rDI => OpKind::MemoryESRDI,
        Kind::seg_rBX_al => OpKind::Memory,
        Kind::br64_1 | Kind::br64_4 => OpKind::NearBranch64,
        other => unreachable!("{other:?} is not among the forms"),
    };
    instruction.set_op_kind(operand, op_kind);
    let value = random.operand();
    match op_kind {
        OpKind::Immediate8 if kind == Kind::imm8_const_1 => instruction.set_immediate8(1),
        OpKind::Immediate8 => instruction.set_immediate8(value as u8),
        OpKind::Immediate8_2nd => instruction.set_immediate8_2nd(value as u8),
        OpKind::Immediate8to16 => instruction.set_immediate8to16((value as i8).into()),
        OpKind::Immediate8to32 => instruction.set_immediate8to32((value as i8).into()),
        OpKind::Immediate8to64 => instruction.set_immediate8to64((value as i8).into()),
        OpKind::Immediate16 => instruction.set_immediate16(value as u16),
        OpKind::Immediate32 => instruction.set_immediate32(value as u32),
        OpKind::Immediate32to64 => instruction.set_immediate32to64((value as i32).into()),
        OpKind::Immediate64 => instruction.set_immediate64(value),
        OpKind::NearBranch64 => {
            // What an 8-bit displacement reaches, without the instruction itself.
            let distance = 20 + random.below(90);
            instruction.set_near_branch64(if random.chance(50) { near + distance } else { near - distance });
        }
        OpKind::Memory => {
            instruction.set_memory_base(Register::RBX);
            instruction.set_memory_index(Register::AL);
        }
        _ => {}
    }
}

/// Gives the instruction a memory operand, and `regs` the values that make its linear address `target`.
pub(super) fn address(instruction: &mut Instruction, regs: &mut [u64; 16], random: &mut Random, target: u64) {
    let (prefix, segment_base) = match random.below(10) {
        0 => (Register::FS, FS_BASE),
        1 => (Register::GS, GS_BASE),
        2 => (Register::DS, 0),
        _ => (Register::None, 0),
    };
    instruction.set_segment_prefix(prefix);
    let target = target.wrapping_sub(segment_base);
    let reaches = i32::try_from(target.cast_signed()).is_ok();
    match random.below(10) {
        0 if reaches => {
            instruction.set_memory_base(Register::RIP);
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(target);
        }
        1 if reaches => {
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(target);
        }
        2 if reaches => {
            let index = index_register(random);
            let scale = random.pick(&[1, 2, 4, 8]);
            let value = random.below(0x100_0000).wrapping_sub(0x80_0000);
            regs[number(index)] = value;
            instruction.set_memory_index(index);
            instruction.set_memory_index_scale(scale);
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(target.wrapping_sub(value.wrapping_mul(scale.into())));
        }
        3..=6 => base_and_index(instruction, regs, random, target),
        _ => {
            let base = register(random, 8);
            let displacement = displacement(random);
            instruction.set_memory_base(base);
            instruction.set_memory_displ_size(if displacement == 0 { 0 } else { 8 });
            instruction.set_memory_displacement64(displacement);
            regs[number(base)] = target.wrapping_sub(displacement);
        }
    }
}

fn base_and_index(instruction: &mut Instruction, regs: &mut [u64; 16], random: &mut Random, target: u64) {
    let (index, scale) = (index_register(random), random.pick(&[1, 2, 4, 8]));
    let base = loop {
        let base = register(random, 8);
        if base != index {
            break base;
        }
    };
    let displacement = displacement(random);
    let value = if random.chance(50) { random.below(0x1000) } else { random.next() };
    regs[number(index)] = value;
    regs[number(base)] = target.wrapping_sub(displacement).wrapping_sub(value.wrapping_mul(scale.into()));
    instruction.set_memory_base(base);
    instruction.set_memory_index(index);
    instruction.set_memory_index_scale(scale);
    instruction.set_memory_displ_size(8);
    instruction.set_memory_displacement64(displacement);
}

fn index_register(random: &mut Random) -> Register {
    loop {
        let index = register(random, 8);
        if index != Register::RSP {
            return index;
        }
    }
}

/// None, one of 8 bits, or one of 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "displacements are the low bits of what was drawn")]
fn displacement(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => 0,
        1 => i64::from(random.next() as i8).cast_unsigned(),
        _ => i64::from(random.next() as i32).cast_unsigned(),
    }
}
