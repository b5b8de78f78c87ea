//! Who may do what: the checks that several groups of instructions share.

use super::cpu::Cpu;
use super::flags::IOPL;
use super::step::Step;

impl Cpu {
    /// Current privilege level: rings 1 and 2 cannot be entered.
    pub(crate) fn level(&self) -> u8 {
        if self.user { 3 } else { 0 }
    }

    /// Refuses ring 3.
    ///
    /// # Errors
    /// General protection.
    pub(crate) fn require_kernel(&mut self) -> Step {
        if self.user { self.protection() } else { Ok(()) }
    }

    /// Whether code at the current level may use ports and the interrupt flag without further ado.
    pub(crate) fn has_io_privilege(&self) -> bool {
        !self.user || self.flags.rest() & IOPL == IOPL
    }
}
