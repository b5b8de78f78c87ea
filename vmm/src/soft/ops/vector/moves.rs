//! Moving whole registers.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::memory;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::memory::{check_aligned, load as read, store as write};
use super::operands::{encoding, last, last_or_memory, register};
use super::registers::{get, ready, set};

fn between(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get(cpu, op, last(op))?;
    set(cpu, op, op.dst, value)
}

fn load(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = read(cpu, op)?;
    set(cpu, op, op.dst, value)
}

fn load_aligned(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    check_aligned(cpu, op)?;
    load(cpu, op)
}

fn store(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    let value = get(cpu, op, op.src)?;
    write(cpu, op, value)
}

fn store_aligned(cpu: &mut Cpu, op: &Op) -> Step {
    ready(cpu, op)?;
    check_aligned(cpu, op)?;
    store(cpu, op)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let aligned = match instruction.mnemonic() {
        Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqu
        | Mnemonic::Lddqu
        | Mnemonic::Vmovups
        | Mnemonic::Vmovupd
        | Mnemonic::Vmovdqu
        | Mnemonic::Vlddqu => false,
        Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movdqa
        | Mnemonic::Movntdq
        | Mnemonic::Movntps
        | Mnemonic::Movntpd
        | Mnemonic::Movntdqa
        | Mnemonic::Vmovaps
        | Mnemonic::Vmovapd
        | Mnemonic::Vmovdqa
        | Mnemonic::Vmovntdq
        | Mnemonic::Vmovntps
        | Mnemonic::Vmovntpd
        | Mnemonic::Vmovntdqa => true,
        _ => return None,
    };
    encoding(instruction, op);
    if instruction.op_kind(0) == OpKind::Memory {
        memory(instruction, op)?;
        op.src = register(instruction.op_register(1))?;
        return Some(if aligned { store_aligned } else { store });
    }
    op.dst = register(instruction.op_register(0))?;
    let memory = last_or_memory(instruction, 1, op)?;
    Some(match (memory, aligned) {
        (false, _) => between,
        (true, false) => load,
        (true, true) => load_aligned,
    })
}
