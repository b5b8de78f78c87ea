//! IA32_APIC_BASE: switching the local APIC on and off and between its modes.
//!
//! ```text
//!            ┌───────────────────────────────────────┐
//!            ▼                                       │
//!   off (reset state) ◄──► xAPIC ──► x2APIC ─────────┘       any other change is #GP
//! ```
//!
//! Intel SDM volume 3A, section 11.12.5.

use super::super::apic_timer::ApicTimer;
use super::registers::{BASE_ADDRESS, BASE_BOOT_CPU, BASE_ENABLED, BASE_X2APIC, Registers};
use super::{GeneralProtection, LocalApic};

const DEFINED: u64 = BASE_ADDRESS | BASE_BOOT_CPU | BASE_ENABLED | BASE_X2APIC;

impl LocalApic {
    /// Writes IA32_APIC_BASE.
    ///
    /// # Errors
    /// A reserved bit is set, or there is no way from one mode to the other.
    pub(super) fn write_base(&mut self, value: u64) -> Result<(), GeneralProtection> {
        let was_enabled = self.registers.enabled();
        let was_x2apic = self.registers.x2apic();
        let enable = value & BASE_ENABLED != 0;
        let x2apic = value & BASE_X2APIC != 0;
        let forbidden = (x2apic && !enable) || (was_x2apic && enable && !x2apic) || (!was_enabled && x2apic);
        if value & !DEFINED != 0 || forbidden {
            return Err(GeneralProtection);
        }
        if was_enabled && !enable {
            self.registers = Registers::after_reset();
            self.timer = ApicTimer::new(self.frequency);
        }
        if !was_x2apic && x2apic {
            self.registers.command &= u64::from(u32::MAX);
        }
        self.registers.base = value;
        Ok(())
    }
}
