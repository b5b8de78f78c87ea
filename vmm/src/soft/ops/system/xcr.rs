//! xgetbv, xsetbv (Intel SDM volume 1, section 13.3).

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, RAX, RCX, RDX};
use super::super::super::step::{Exception, Step};
use super::done;
use crate::cpu::control_bits::CR4_OSXSAVE;

/// Components of extended state: x87, SSE, AVX, MPX (two), AVX-512 (three), AMX (two).
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const TOGETHER: [u64; 3] = [3 << 3, 7 << 5, 3 << 17];
const AVX_512: u64 = TOGETHER[1];

fn require_xsave(cpu: &mut Cpu) -> Step {
    if cpu.mmu.paging.cr4 & CR4_OSXSAVE == 0 {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    Ok(())
}

fn read(cpu: &mut Cpu, _: &Op) -> Step {
    require_xsave(cpu)?;
    if cpu.get::<u32>(RCX) != 0 {
        return cpu.protection();
    }
    let value = cpu.xcr0;
    cpu.set::<u32>(RAX, value);
    cpu.set::<u32>(RDX, value >> 32);
    Ok(())
}

/// Whether XCR0 can be `value` where `supported` components exist.
fn is_possible(value: u64, supported: u64) -> bool {
    let has = |bits| value & bits != 0;
    value & !(supported | X87) == 0
        && has(X87)
        && (has(SSE) || !has(AVX))
        && (has(AVX) || !has(AVX_512))
        && TOGETHER.iter().all(|bits| matches!(value & bits, 0) || value & bits == *bits)
}

fn write(cpu: &mut Cpu, op: &Op) -> Step {
    require_xsave(cpu)?;
    cpu.require_kernel()?;
    let value = cpu.get::<u32>(RDX) << 32 | cpu.get::<u32>(RAX);
    if cpu.get::<u32>(RCX) != 0 || !is_possible(value, cpu.system.cpuid.extended_state()) {
        return cpu.protection();
    }
    cpu.xcr0_is_new |= cpu.xcr0 != value;
    cpu.xcr0 = value;
    done(cpu, op)
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Xgetbv => Some(read),
        Mnemonic::Xsetbv => Some(write),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::super::super::super::cpuid::Cpuid;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_well};
    use super::*;

    const XGETBV: &[u8] = &[0x0f, 0x01, 0xd0];
    const XSETBV: &[u8] = &[0x0f, 0x01, 0xd1];

    fn prepare(cpu: &mut Cpu) {
        let leaf = kvm_cpuid_entry2 { function: 0xd, eax: 0xe7, ..Default::default() };
        cpu.system.cpuid = Cpuid::of_host(&[leaf]);
        cpu.mmu.paging.cr4 |= CR4_OSXSAVE;
        cpu.xcr0_is_new = false;
    }

    #[test]
    fn components_are_switched_on() {
        for value in [1, 3, 7, 0xe7] {
            let cpu = run_well(XSETBV, |cpu| {
                prepare(cpu);
                cpu.regs[usize::from(RAX)] = value;
            });
            assert_eq!((cpu.xcr0, cpu.xcr0_is_new), (value, value != 1));
        }
        let cpu = run_well(XGETBV, |cpu| {
            prepare(cpu);
            cpu.xcr0 = 7;
            cpu.regs[usize::from(RDX)] = !0;
        });
        assert_eq!((cpu.regs[usize::from(RAX)], cpu.regs[usize::from(RDX)]), (7, 0));
    }

    #[test]
    fn impossible_combinations_are_refused() {
        for (index, low, high) in
            [(0, 0, 0), (0, 2, 0), (0, 5, 0), (0, 0xe3, 0), (0, 0x27, 0), (0, 0x1f, 0), (0, 7, 1), (1, 7, 0)]
        {
            let raised = run_badly(XSETBV, |cpu| {
                prepare(cpu);
                cpu.regs[..3].copy_from_slice(&[low, index, high]);
            });
            assert_eq!(raised, (13, Some(0)), "{index}: {high:#x}:{low:#x}");
        }
        let other_register = run_badly(XGETBV, |cpu| {
            prepare(cpu);
            cpu.regs[usize::from(RCX)] = 1;
        });
        let in_ring3 = run_badly(XSETBV, |cpu| {
            prepare(cpu);
            enter_ring3(cpu);
        });
        assert_eq!((other_register, in_ring3), ((13, Some(0)), (13, Some(0))));
        assert_eq!(run_badly(XGETBV, |_| {}), (6, None));
    }
}
