//! When interrupts come in: cli, sti, hlt.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::flags::IF;
use super::super::super::step::{Step, Stop};
use super::{done, go_on};

fn clear_interrupts(cpu: &mut Cpu, _: &Op) -> Step {
    if !cpu.has_io_privilege() {
        return cpu.protection();
    }
    cpu.flags.set_rest(IF, 0);
    Ok(())
}

fn set_interrupts(cpu: &mut Cpu, op: &Op) -> Step {
    if !cpu.has_io_privilege() {
        return cpu.protection();
    }
    if cpu.flags.rest() & IF != 0 {
        return go_on(cpu, op);
    }
    cpu.flags.set_rest(IF, IF);
    cpu.shadow = true;
    done(cpu, op)
}

fn halt(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    cpu.rip = op.next_rip(cpu);
    Err(Stop::Halt)
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Cli => Some(clear_interrupts),
        Mnemonic::Sti => Some(set_interrupts),
        Mnemonic::Hlt => Some(halt),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::flags::IOPL;
    use super::super::super::super::testing::CODE;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_one};
    use super::*;

    const CLI: &[u8] = &[0xfa];
    const STI: &[u8] = &[0xfb];
    const HLT: &[u8] = &[0xf4];

    #[test]
    fn sti_lets_one_more_instruction_run_first() {
        let (cpu, result) = run_one(STI, |_| {});
        assert_eq!((result, cpu.shadow, cpu.flags.rest() & IF), (Err(Stop::Done), true, IF));
        assert_eq!(cpu.rip, CODE + 1);
        let (cpu, result) = run_one(STI, |cpu| cpu.flags.set_rest(IF, IF));
        assert_eq!((result, cpu.shadow), (Ok(()), false), "nothing changes");
        let (cpu, result) = run_one(CLI, |cpu| cpu.flags.set_rest(IF, IF));
        assert_eq!((result, cpu.flags.rest() & IF), (Ok(()), 0));
    }

    #[test]
    fn hlt_waits_behind_itself() {
        let (cpu, result) = run_one(HLT, |_| {});
        assert_eq!((result, cpu.rip), (Err(Stop::Halt), CODE + 1));
    }

    #[test]
    fn programs_need_io_privilege_and_never_halt() {
        for code in [CLI, STI, HLT] {
            assert_eq!(run_badly(code, enter_ring3), (13, Some(0)), "{code:x?}");
        }
        for code in [CLI, STI] {
            let (_, result) = run_one(code, |cpu| {
                enter_ring3(cpu);
                cpu.flags.set_rest(IOPL, IOPL);
            });
            assert_ne!(result, Err(Stop::Fault), "{code:x?}");
        }
    }
}
