//! Strings from and to ports: ins, outs, one element for each time a device is asked.

use iced_x86::Instruction;

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, PortAccess, RDI, RDX, RSI};
use super::super::super::step::{Step, Stop};
use super::super::super::word::Word;
use super::{advance, destination, is_repeated, repeat, source};

/// What the device answered to this access, or the stop that asks it.
fn ask<T: Word>(cpu: &mut Cpu, write: Option<u64>) -> Step<u64> {
    if let Some(answer) = cpu.port_answer {
        return Ok(answer.into());
    }
    let port = u16::truncate(cpu.get::<u16>(RDX));
    let size = u8::truncate(super::size::<T>());
    cpu.port = Some(PortAccess { port, size, write: write.map(u32::truncate) });
    Err(Stop::Port)
}

/// Ring 3 needs IOPL 3: what the task's I/O bitmap would allow is refused.
fn require_io_privilege(cpu: &mut Cpu) -> Step {
    if cpu.has_io_privilege() { Ok(()) } else { cpu.protection() }
}

fn input_one<T: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    require_io_privilege(cpu)?;
    let to = destination(cpu);
    // What a port has given cannot be asked for again, so faults come first.
    cpu.check_write(to, size_of::<T>())?;
    let value = ask::<T>(cpu, None)?;
    cpu.write::<T>(to, value)?;
    advance::<T>(cpu, RDI, 1);
    Ok(())
}

fn output_one<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    require_io_privilege(cpu)?;
    if cpu.port_answer.is_none() {
        let value = cpu.read::<T>(source(cpu, op))?;
        ask::<T>(cpu, Some(value))?;
    }
    advance::<T>(cpu, RSI, 1);
    Ok(())
}

fn input_repeatedly<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    repeat::<T>(cpu, op, |cpu, op, _| input_one::<T>(cpu, op).map(|()| 1))
}

fn output_repeatedly<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    repeat::<T>(cpu, op, |cpu, op, _| output_one::<T>(cpu, op).map(|()| 1))
}

/// Picks the instance for a port access of `size` bytes.
macro_rules! port_sized {
    ($size:expr, $handler:ident) => {
        match $size {
            1 => $handler::<u8>,
            2 => $handler::<u16>,
            4 => $handler::<u32>,
            _ => return None,
        }
    };
}

pub(super) fn ins(instruction: &Instruction, size: usize) -> Option<Handler> {
    let repeated = is_repeated(instruction);
    Some(if repeated { port_sized!(size, input_repeatedly) } else { port_sized!(size, input_one) })
}

pub(super) fn outs(instruction: &Instruction, size: usize) -> Option<Handler> {
    let repeated = is_repeated(instruction);
    Some(if repeated { port_sized!(size, output_repeatedly) } else { port_sized!(size, output_one) })
}
