//! cpuid.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX, RBX, RCX, RDX};
use super::super::super::step::Step;
use super::super::super::word::Word;
use crate::cpu::control_bits::CR4_OSXSAVE;

/// Leaf 1 ECX: the kernel has switched XSAVE on.
const OSXSAVE: u32 = 1 << 27;

fn cpuid(cpu: &mut Cpu, _: &Op) -> Step {
    let function = u32::truncate(cpu.get::<u32>(RAX));
    let index = u32::truncate(cpu.get::<u32>(RCX));
    let table = &cpu.system.cpuid;
    let [eax, mut ebx, mut ecx, edx] =
        if cpu.user { table.programs_leaf(function, index) } else { table.leaf(function, index) };
    match (function, index) {
        (0x1, _) => {
            let is_on = cpu.mmu.paging.cr4 & CR4_OSXSAVE != 0;
            ecx = ecx & !OSXSAVE | if is_on { OSXSAVE } else { 0 };
        }
        (0xd, 0) if eax != 0 => ebx = table.xsave_len(cpu.xcr0),
        _ => {}
    }
    for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
        cpu.set::<u32>(register, value.into());
    }
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    (instruction.mnemonic() == Mnemonic::Cpuid).then_some(cpuid)
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

    use super::super::super::super::cpuid::Cpuid;
    use super::super::super::super::testing::tables::{enter_ring3, run_well};
    use super::*;

    fn ask(function: u64, index: u64, prepare: fn(&mut Cpu)) -> [u64; 4] {
        let leaf = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: 7,
            ebx: 0x240,
            ..Default::default()
        };
        let cpu = run_well(&[0x0f, 0xa2], |cpu| {
            cpu.system.cpuid = Cpuid::of_host(&[leaf(1, 0), leaf(0xd, 0), leaf(0xd, 2)]);
            cpu.regs[..4].copy_from_slice(&[!0 << 32 | function, index, !0, !0]);
            prepare(cpu);
        });
        [RAX, RBX, RCX, RDX].map(|register| cpu.regs[usize::from(register)])
    }

    #[test]
    fn it_reads_the_table_and_clears_the_upper_halves() {
        assert_eq!(ask(0xd, 2, |_| {}), [7, 0x240, 0, 0]);
        assert_eq!(ask(0xd, 5, |_| {}), [0; 4]);
        assert_eq!(ask(0x1234_5678, 0, |_| {}), [0; 4]);
    }

    #[test]
    fn programs_have_a_table_of_their_own() {
        assert_eq!(ask(0x4000_0000, 0, enter_ring3), [0; 4]);
        assert_ne!(ask(0x4000_0000, 0, |_| {}), [0; 4]);
    }

    #[test]
    fn what_the_kernel_has_switched_on_is_in_it() {
        let osxsave = |prepare| ask(1, 0, prepare)[2] & u64::from(OSXSAVE) != 0;
        assert!(!osxsave(|_| {}));
        assert!(osxsave(|cpu| cpu.mmu.paging.cr4 |= CR4_OSXSAVE));
        assert_eq!(ask(0xd, 0, |_| {})[1], 576);
        assert_eq!(ask(0xd, 0, |cpu| cpu.xcr0 = 7)[1], 583);
    }
}
