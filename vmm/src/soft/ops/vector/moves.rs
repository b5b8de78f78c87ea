//! Moving vectors and parts of them between registers and memory.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::{get, read, read_aligned, register, set, write};

const LOW: u128 = u64::MAX as u128;

fn between(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.src)?;
    set(cpu, op.dst, value)
}

fn load(cpu: &mut Cpu, op: &Op) -> Step {
    let value = read(cpu, op.address(cpu))?;
    set(cpu, op.dst, value)
}

fn load_aligned(cpu: &mut Cpu, op: &Op) -> Step {
    let value = read_aligned(cpu, op.address(cpu))?;
    set(cpu, op.dst, value)
}

fn store(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.src)?;
    write(cpu, op.address(cpu), value)
}

fn store_aligned(cpu: &mut Cpu, op: &Op) -> Step {
    if !op.address(cpu).is_multiple_of(16) {
        return cpu.protection();
    }
    store(cpu, op)
}

/// The low part of a vector register as a number.
fn low(cpu: &mut Cpu, register: u8) -> Step<u64> {
    Ok(u64::try_from(get(cpu, register)? & LOW).unwrap_or_default())
}

fn from_general_32(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<u32>(op.src);
    set(cpu, op.dst, value.into())
}

fn from_general_64(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<u64>(op.src);
    set(cpu, op.dst, value.into())
}

fn to_general_32(cpu: &mut Cpu, op: &Op) -> Step {
    let value = low(cpu, op.src)?;
    cpu.set::<u32>(op.dst, value);
    Ok(())
}

fn to_general_64(cpu: &mut Cpu, op: &Op) -> Step {
    let value = low(cpu, op.src)?;
    cpu.set::<u64>(op.dst, value);
    Ok(())
}

/// Loads 4 bytes and clears the rest.
fn load_32(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<u32>(op.address(cpu))?;
    set(cpu, op.dst, value.into())
}

/// Loads 8 bytes and clears the rest.
fn load_64(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<u64>(op.address(cpu))?;
    set(cpu, op.dst, value.into())
}

fn store_32(cpu: &mut Cpu, op: &Op) -> Step {
    let value = low(cpu, op.src)?;
    cpu.write::<u32>(op.address(cpu), value)
}

fn store_64(cpu: &mut Cpu, op: &Op) -> Step {
    let value = low(cpu, op.src)?;
    cpu.write::<u64>(op.address(cpu), value)
}

/// The low half, with the rest cleared.
fn low_half(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.src)?;
    set(cpu, op.dst, value & LOW)
}

/// Loads 8 bytes into one half and leaves the other.
fn load_half<const HIGH: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = u128::from(cpu.read::<u64>(op.address(cpu))?);
    let old = get(cpu, op.dst)?;
    set(cpu, op.dst, if HIGH { old & LOW | value << 64 } else { old & !LOW | value })
}

fn store_high(cpu: &mut Cpu, op: &Op) -> Step {
    let value = u64::try_from(get(cpu, op.src)? >> 64).unwrap_or_default();
    cpu.write::<u64>(op.address(cpu), value)
}

/// The source's high half into the low one.
fn high_to_low(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.src)?;
    let old = get(cpu, op.dst)?;
    set(cpu, op.dst, old & !LOW | value >> 64)
}

/// The source's low half into the high one.
fn low_to_high(cpu: &mut Cpu, op: &Op) -> Step {
    let value = get(cpu, op.src)?;
    let old = get(cpu, op.dst)?;
    set(cpu, op.dst, old & LOW | value << 64)
}

/// Handlers of a move between two vector operands: registers, from memory, to memory.
struct Ways {
    between: Handler,
    load: Handler,
    store: Handler,
}

const UNALIGNED: Ways = Ways { between, load, store };
const ALIGNED: Ways = Ways { between, load: load_aligned, store: store_aligned };
const QUADWORD: Ways = Ways { between: low_half, load: load_64, store: store_64 };
const LOW_HALF: Ways = Ways { between: high_to_low, load: load_half::<false>, store: store_64 };
const HIGH_HALF: Ways = Ways { between: low_to_high, load: load_half::<true>, store: store_high };

fn with(ways: &Ways, instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        op.src = register(instruction.op_register(1))?;
        return Some(ways.store);
    }
    op.dst = register(instruction.op_register(0))?;
    if instruction.op_kind(1) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(ways.load);
    }
    op.src = register(instruction.op_register(1))?;
    Some(ways.between)
}

/// Between a vector register and a general one or memory.
fn general(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let to_vector = matches!(instruction.code(), Code::Movd_xmm_rm32 | Code::Movq_xmm_rm64);
    let wide = matches!(instruction.code(), Code::Movq_xmm_rm64 | Code::Movq_rm64_xmm);
    let (vector, other) = if to_vector { (0, 1) } else { (1, 0) };
    let vector = register(instruction.op_register(vector))?;
    if instruction.op_kind(other) == OpKind::Memory {
        operands::memory(instruction, op)?;
        (op.dst, op.src) = (vector, vector);
        return Some(match (to_vector, wide) {
            (true, true) => load_64,
            (true, false) => load_32,
            (false, true) => store_64,
            (false, false) => store_32,
        });
    }
    let general = operands::register(instruction.op_register(other))?;
    (op.dst, op.src) = if to_vector { (vector, general) } else { (general, vector) };
    Some(match (to_vector, wide) {
        (true, true) => from_general_64,
        (true, false) => from_general_32,
        (false, true) => to_general_64,
        (false, false) => to_general_32,
    })
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let ways = match instruction.mnemonic() {
        Mnemonic::Movups | Mnemonic::Movupd | Mnemonic::Movdqu | Mnemonic::Lddqu => &UNALIGNED,
        Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movdqa
        | Mnemonic::Movntdq
        | Mnemonic::Movntps
        | Mnemonic::Movntpd => &ALIGNED,
        Mnemonic::Movlps | Mnemonic::Movlpd | Mnemonic::Movhlps => &LOW_HALF,
        Mnemonic::Movhps | Mnemonic::Movhpd | Mnemonic::Movlhps => &HIGH_HALF,
        Mnemonic::Movd => return general(instruction, op),
        Mnemonic::Movq => match instruction.code() {
            Code::Movq_xmm_rm64 | Code::Movq_rm64_xmm => return general(instruction, op),
            _ => &QUADWORD,
        },
        _ => return None,
    };
    with(ways, instruction, op)
}
