//! Ports: in, out. The interpreter hands the access over and runs the instruction again with the answer.

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, PortAccess, RAX, RDX};
use super::super::super::step::{Step, Stop};
use super::super::super::word::Word;

/// Where a task state segment says where its I/O permission bitmap is.
const TSS_BITMAP: u64 = 0x66;

/// Refuses code without I/O privilege ports that the task's bitmap does not allow it (Intel SDM volume 1, section 19.5.2).
///
/// # Errors
/// General protection, or the task state segment faults.
pub(in super::super) fn require_port(cpu: &mut Cpu, port: u16, size: u32) -> Step {
    if cpu.has_io_privilege() {
        return Ok(());
    }
    let (base, limit) = (cpu.sregs.tr.base, u64::from(cpu.sregs.tr.limit));
    if TSS_BITMAP + 1 > limit {
        return cpu.protection();
    }
    let bitmap = cpu.read_system::<u16>(base.wrapping_add(TSS_BITMAP))? + u64::from(port / 8);
    if bitmap + 1 > limit {
        return cpu.protection();
    }
    let bits = cpu.read_system::<u16>(base.wrapping_add(bitmap))?;
    let wanted = ((1 << size) - 1) << (port % 8);
    if bits & wanted != 0 { cpu.protection() } else { Ok(()) }
}

/// Asks for the access, or takes the answer if there is one.
fn access<T: Word>(cpu: &mut Cpu, port: u16, write: Option<u32>) -> Step<u64> {
    let size = T::BITS / 8;
    require_port(cpu, port, size)?;
    if let Some(answer) = cpu.port_answer.take() {
        return Ok(answer.into());
    }
    cpu.port = Some(PortAccess { port, size: u8::try_from(size).unwrap_or(4), write });
    Err(Stop::Port)
}

fn input<T: Word>(cpu: &mut Cpu, port: u16) -> Step {
    let value = access::<T>(cpu, port, None)?;
    cpu.set::<T>(RAX, value);
    Ok(())
}

fn output<T: Word>(cpu: &mut Cpu, port: u16) -> Step {
    let value = u32::truncate(cpu.get::<T>(RAX));
    access::<T>(cpu, port, Some(value)).map(|_| ())
}

fn port_dx(cpu: &Cpu) -> u16 {
    u16::truncate(cpu.get::<u16>(RDX))
}

fn input_dx<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    input::<T>(cpu, port_dx(cpu))
}

fn input_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    input::<T>(cpu, u16::truncate(op.imm))
}

fn output_dx<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    output::<T>(cpu, port_dx(cpu))
}

fn output_imm<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    output::<T>(cpu, u16::truncate(op.imm))
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    op.imm = instruction.immediate8().into();
    Some(match instruction.code() {
        Code::In_AL_imm8 => input_imm::<u8>,
        Code::In_AX_imm8 => input_imm::<u16>,
        Code::In_EAX_imm8 => input_imm::<u32>,
        Code::In_AL_DX => input_dx::<u8>,
        Code::In_AX_DX => input_dx::<u16>,
        Code::In_EAX_DX => input_dx::<u32>,
        Code::Out_imm8_AL => output_imm::<u8>,
        Code::Out_imm8_AX => output_imm::<u16>,
        Code::Out_imm8_EAX => output_imm::<u32>,
        Code::Out_DX_AL => output_dx::<u8>,
        Code::Out_DX_AX => output_dx::<u16>,
        Code::Out_DX_EAX => output_dx::<u32>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::CODE;
    use super::super::super::super::testing::tables::{TSS, enter_ring3, run_badly, run_one};
    use super::*;

    #[test]
    fn an_access_is_handed_over() {
        let read = |port, size| PortAccess { port, size, write: None };
        for (code, access) in [
            (&[0xe4, 0x71][..], read(0x71, 1)),
            (&[0xed], read(0x3f8, 4)),
            (&[0x66, 0xed], read(0x3f8, 2)),
            (&[0xee], PortAccess { port: 0x3f8, size: 1, write: Some(0x41) }),
            (&[0xef], PortAccess { port: 0x3f8, size: 4, write: Some(0x4241) }),
        ] {
            let (cpu, result) = run_one(code, |cpu| {
                (cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RDX)]) = (0x4241, 0x1_03f8);
            });
            assert_eq!((result, cpu.port, cpu.rip), (Err(Stop::Port), Some(access), CODE), "{code:x?}");
        }
    }

    #[test]
    fn the_answer_is_taken_once() {
        let (cpu, result) = run_one(&[0xec], |cpu| {
            cpu.regs[usize::from(RAX)] = 0x1111;
            cpu.port_answer = Some(0xaaff);
        });
        assert_eq!((result, cpu.regs[usize::from(RAX)], cpu.port_answer), (Ok(()), 0x11ff, None));
        let (cpu, result) = run_one(&[0xee], |cpu| cpu.port_answer = Some(0));
        assert_eq!((result, cpu.port_answer, cpu.rip), (Ok(()), None, CODE + 1));
    }

    #[test]
    fn programs_need_permission() {
        assert_eq!(run_badly(&[0xec], enter_ring3), (13, Some(0)), "there is no bitmap");
        // Ports 0 to 15 by a bitmap of three bytes, of which 0 and 9 to 15 are forbidden.
        for (code, port, is_allowed) in [
            (0xec, 1, true),
            (0xed, 5, true),
            (0xed, 6, false),
            (0xec, 0, false),
            (0xec, 8, true),
            (0xec, 16, false),
        ] {
            let (_, result) = run_one(&[code], |cpu| {
                cpu.sregs.tr.limit = 0x6a;
                cpu.write_system::<u32>(TSS + 0x68, 0xff_fe01).unwrap();
                cpu.regs[usize::from(RDX)] = port;
                enter_ring3(cpu);
            });
            assert_eq!(result == Err(Stop::Port), is_allowed, "port {port}");
        }
    }
}
