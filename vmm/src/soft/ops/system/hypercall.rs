//! Hypercalls of KVM: none is offered (Linux, Documentation/virt/kvm/x86/hypercalls.rst).

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX};
use super::super::super::step::Step;

/// Negative error numbers of KVM: no such call; not permitted.
const KVM_ENOSYS: i64 = 1000;
const KVM_EPERM: i64 = 1;

fn hypercall(cpu: &mut Cpu, _: &Op) -> Step {
    let error = if cpu.user { KVM_EPERM } else { KVM_ENOSYS };
    cpu.set::<u64>(RAX, (-error).cast_unsigned());
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    matches!(instruction.mnemonic(), Mnemonic::Vmcall | Mnemonic::Vmmcall).then_some(hypercall)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::tables::{enter_ring3, run_well};
    use super::*;

    #[test]
    fn there_are_none() {
        for code in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
            let rax = |cpu: Cpu| cpu.regs[usize::from(RAX)].cast_signed();
            assert_eq!(rax(run_well(&code, |_| {})), -1000);
            assert_eq!(rax(run_well(&code, enter_ring3)), -1);
        }
    }
}
