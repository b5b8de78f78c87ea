//! The RAM of a CPU under test, by address: [`super::super::testing`] maps it one to one.

use super::super::cpu::Cpu;
use super::super::word::Word;

fn offset(address: u64) -> usize {
    usize::try_from(address).expect("an address in a small RAM")
}

/// The value at `address`.
pub(super) fn load<T: Word>(cpu: &Cpu, address: u64) -> T {
    cpu.mmu.ram.load(offset(address))
}

/// Puts `value` at `address`.
pub(super) fn store<T: Word>(cpu: &Cpu, address: u64, value: T) {
    cpu.mmu.ram.store(offset(address), value);
}
