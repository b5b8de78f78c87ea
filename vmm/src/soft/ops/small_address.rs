//! Addresses of 32 bits in 64-bit mode (prefix 0x67), for the instructions that compilers use them with: mov, lea.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::super::code::op::{Handler, Op};
use super::super::code::operands::{self, Form, sized};
use super::super::cpu::{Cpu, ZERO};
use super::super::step::Step;
use super::super::word::Word;

/// Address of the memory operand in its segment: the sum wraps at 4 GiB.
fn effective(cpu: &Cpu, op: &Op) -> u64 {
    op.effective_address(cpu) & u64::from(u32::MAX)
}

fn address(cpu: &Cpu, op: &Op) -> u64 {
    effective(cpu, op).wrapping_add(cpu.bases[usize::from(op.segment & 3)])
}

fn load<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read::<T>(address(cpu, op))?;
    cpu.set::<T>(op.dst, value);
    Ok(())
}

fn store_reg<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.get::<T>(op.src);
    cpu.write::<T>(address(cpu, op), value)
}

fn store_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.write::<T>(address(cpu, op), op.imm)
}

fn lea<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = effective(cpu, op);
    cpu.set::<T>(op.dst, value);
    Ok(())
}

/// Puts a memory operand with a 32-bit address into `op`; `None` if it has none.
fn memory(instruction: &Instruction, op: &mut Op) -> Option<()> {
    let part = |register: Register| match register {
        Register::None | Register::EIP => Some(ZERO),
        register if register.is_gpr32() => operands::register(register),
        _ => None,
    };
    op.base = part(instruction.memory_base())?;
    op.index = part(instruction.memory_index())?;
    op.scale = u8::try_from(instruction.memory_index_scale().trailing_zeros()).ok()?;
    op.disp = instruction.memory_displacement64();
    op.segment = operands::segment(instruction);
    Some(())
}

fn mov(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let is_immediate = operands::is_immediate(instruction, 1);
    let form = if operands::dst(instruction, 0, op).is_some() {
        Form::RegMem
    } else if is_immediate {
        op.imm = instruction.immediate(1);
        Form::MemImm
    } else {
        operands::src(instruction, 1, op)?;
        Form::MemReg
    };
    Some(sized!(instruction.memory_size().size(), T => match form {
        Form::RegMem => load::<T>,
        Form::MemImm => store_imm::<T>,
        _ => store_reg::<T>,
    }))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let has_memory =
        (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    if !has_memory || !matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Lea) {
        return None;
    }
    memory(instruction, op)?;
    if instruction.mnemonic() == Mnemonic::Mov {
        return mov(instruction, op);
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(operands::size(instruction, 0), T => lea::<T>))
}

#[cfg(test)]
mod tests {
    use super::super::super::cpu::{Cpu, GS, RAX, RBX, RDI};
    use super::super::super::testing::{CODE, DATA, run};
    use super::super::testing::{load, store};

    const UPPER: u64 = 0xffff_ffff_0000_0000;

    #[test]
    fn sums_wrap_at_4_gib() {
        // lea rax, [edi+ebx*2-1]; lea eax, [edi]; lea rax, [eip+16]
        for (code, rdi, rbx, result) in [
            (&[0x67, 0x48, 0x8d, 0x44, 0x5f, 0xff][..], UPPER | 2, 0xffff_ffff, 0xffff_ffff),
            (&[0x67, 0x8d, 0x07], UPPER | 77, 0, 77),
            (&[0x67, 0x48, 0x8d, 0x05, 16, 0, 0, 0], 0, 0, CODE + 8 + 16),
        ] {
            let cpu = run(code, |cpu| {
                (cpu.regs[usize::from(RDI)], cpu.regs[usize::from(RBX)]) = (rdi, rbx);
            });
            assert_eq!(cpu.regs[usize::from(RAX)], result, "{code:x?}");
        }
    }

    #[test]
    fn memory_is_read_and_written() {
        let prepare = |cpu: &mut Cpu| {
            cpu.regs[usize::from(RDI)] = UPPER | DATA;
            cpu.regs[usize::from(RBX)] = 0x1122_3344_5566_7788;
            cpu.bases[usize::from(GS)] = 0x100;
            store(cpu, DATA, 0x99u64);
        };
        // mov al, [edi]
        assert_eq!(run(&[0x67, 0x8a, 0x07], prepare).regs[usize::from(RAX)], 0x99);
        // mov [edi], ebx
        assert_eq!(load::<u64>(&run(&[0x67, 0x89, 0x1f], prepare), DATA), 0x5566_7788);
        // mov qword gs:[edi], -2
        let cpu = run(&[0x65, 0x67, 0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff], prepare);
        assert_eq!(load::<u64>(&cpu, DATA + 0x100), u64::MAX - 1);
    }
}
