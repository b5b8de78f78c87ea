//! Caches and translations: invlpg, wbinvd, wbnoinvd, invd, serialize. Only the translations are real here.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::step::Step;
use super::go_on;

fn flush_page(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.require_kernel()?;
    // An address that does not exist has no translation to forget.
    let linear = op.address(cpu);
    cpu.mmu.flush_page(linear);
    go_on(cpu, op)
}

fn write_back(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.require_kernel()
}

fn serialize(_: &mut Cpu, _: &Op) -> Step {
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.mnemonic() {
        Mnemonic::Invlpg => {
            operands::memory(instruction, op)?;
            Some(flush_page)
        }
        Mnemonic::Wbinvd | Mnemonic::Wbnoinvd | Mnemonic::Invd => Some(write_back),
        Mnemonic::Serialize => Some(serialize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::RAX;
    use super::super::super::super::mmu::tlb::Kind;
    use super::super::super::super::testing::tables::{enter_ring3, run_badly, run_well};
    use super::super::super::super::testing::{DATA, TABLES};

    const INVLPG: &[u8] = &[0x0f, 0x01, 0x38];
    const WBINVD: &[u8] = &[0x0f, 0x09];

    #[test]
    fn invlpg_forgets_one_page() {
        let mut cpu = run_well(INVLPG, |cpu| {
            for page in [DATA, DATA + 0x1000] {
                cpu.read::<u8>(page).unwrap();
            }
            // The page becomes that of the code under test.
            cpu.write::<u64>(TABLES + 0x3000 + DATA / 0x1000 * 8, 0x1007).unwrap();
            assert_ne!(cpu.read::<u8>(DATA), Ok(INVLPG[0].into()), "known still");
            cpu.regs[usize::from(RAX)] = DATA + 0x123;
            cpu.mmu.native_is_stale = false;
        });
        assert!(cpu.mmu.tlb.find(DATA + 0x1000, Kind::Read, false).is_some());
        assert_eq!(cpu.read::<u8>(DATA), Ok(INVLPG[0].into()));
        assert!(cpu.mmu.native_is_stale);
    }

    #[test]
    fn programs_may_not() {
        for code in [INVLPG, WBINVD] {
            assert_eq!(run_badly(code, enter_ring3), (13, Some(0)));
        }
        run_well(WBINVD, |_| {});
        run_well(INVLPG, |cpu| cpu.regs[usize::from(RAX)] = 1 << 50);
    }
}
