//! rdtsc, rdtscp, rdpmc.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX, RCX, RDX};
use super::super::super::step::Step;
use crate::cpu::control_bits::CR4_TSD;

fn read_time(cpu: &mut Cpu, _: &Op) -> Step {
    if cpu.user && cpu.mmu.paging.cr4 & CR4_TSD != 0 {
        return cpu.protection();
    }
    let tsc = cpu.system.clock.tsc();
    cpu.set::<u32>(RAX, tsc);
    cpu.set::<u32>(RDX, tsc >> 32);
    Ok(())
}

fn read_time_and_processor(cpu: &mut Cpu, op: &Op) -> Step {
    read_time(cpu, op)?;
    cpu.set::<u32>(RCX, cpu.system.msrs.tsc_aux.into());
    Ok(())
}

/// There are no performance counters.
fn read_counter(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.protection()
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Rdtsc => Some(read_time),
        Mnemonic::Rdtscp => Some(read_time_and_processor),
        Mnemonic::Rdpmc => Some(read_counter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::super::clock::Clock;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_well};
    use super::*;

    #[test]
    fn the_time_is_in_edx_and_eax_and_the_processor_in_ecx() {
        let cpu = run_well(&[0x0f, 0x01, 0xf9], |cpu| {
            cpu.system.clock = Clock::new(|| 0x1234_8765_4321, 1, Duration::ZERO);
            cpu.system.msrs.tsc_aux = 9;
            cpu.regs[..4].fill(!0);
        });
        assert_eq!(cpu.regs[..3], [0x8765_4321, 9, 0x1234]);
    }

    #[test]
    fn the_kernel_may_keep_the_time_from_programs() {
        run_well(&[0x0f, 0x31], enter_ring3);
        let raised = run_badly(&[0x0f, 0x31], |cpu| {
            enter_ring3(cpu);
            cpu.mmu.paging.cr4 |= CR4_TSD;
        });
        assert_eq!(raised, (13, Some(0)));
        run_well(&[0x0f, 0x31], |cpu| cpu.mmu.paging.cr4 |= CR4_TSD);
    }

    #[test]
    fn there_are_no_performance_counters() {
        assert_eq!(run_badly(&[0x0f, 0x33], |_| {}), (13, Some(0)));
    }
}
