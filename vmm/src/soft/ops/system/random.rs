//! rdrand, rdseed: random numbers of the host.

use iced_x86::{Instruction, Mnemonic};
use rustix::rand::{GetRandomFlags, getrandom};

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands::{self, sized};
use super::super::super::cpu::Cpu;
use super::super::super::flags::CF;
use super::super::super::step::Step;
use super::super::super::word::Word;

fn random<T: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let mut bytes = [0; 8];
    let is_there = getrandom(&mut bytes, GetRandomFlags::NONBLOCK) == Ok(bytes.len());
    // Without CF there is no number: the guest tries again, or does without.
    cpu.flags.set_arithmetic(if is_there { CF } else { 0 });
    cpu.set::<T>(op.dst, if is_there { u64::from_le_bytes(bytes) } else { 0 });
    Ok(())
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if !matches!(instruction.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed) {
        return None;
    }
    operands::dst(instruction, 0, op)?;
    Some(sized!(operands::size(instruction, 0), T => random::<T>))
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::RAX;
    use super::super::super::super::flags::ARITHMETIC;
    use super::super::super::super::testing::tables::run_well;
    use super::*;

    #[test]
    fn numbers_differ_and_say_that_they_are_there() {
        for code in [[0x48, 0x0f, 0xc7, 0xf0], [0x48, 0x0f, 0xc7, 0xf8]] {
            let [a, b] = [(), ()].map(|()| run_well(&code, |cpu| cpu.flags.set(ARITHMETIC)));
            assert_ne!(a.regs[usize::from(RAX)], b.regs[usize::from(RAX)]);
            assert_eq!(a.flags.get() & ARITHMETIC, CF);
        }
        let cpu = run_well(&[0x0f, 0xc7, 0xf0], |cpu| cpu.regs[usize::from(RAX)] = !0);
        assert_eq!(cpu.regs[usize::from(RAX)] >> 32, 0);
    }
}
