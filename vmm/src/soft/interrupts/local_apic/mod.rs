//! The local APIC: collects interrupts for the CPU and hands them over by priority. Intel SDM volume 3A, chapter 11.
//!
//! ```text
//!   I/O APIC, IPIs ─ receive ─┐
//!   timer, errors ─ fire_local┼─► requested (IRR) ─ acknowledge ─► in service (ISR) ─ end_of_interrupt ─► gone,
//!   LINT0 ────────────────────┘        │ above the processor priority?               level: tell the I/O APIC
//!                                      └─► pending_vector
//! ```
//!
//! [`registers`] is what it holds, [`base`] how it is switched on, [`mmio`] and [`msr`] are its two faces to the guest
//! over [`access`], [`ipi`] its own interrupt command.

mod access;
mod base;
mod ipi;
mod mmio;
mod msr;
mod registers;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::apic_timer::ApicTimer;
use super::frequency::TscFrequency;
use super::message::{DeliveryMode, EVERYONE, Message};
use registers::{ERROR_RECEIVED_ILLEGAL, FIRST_LEGAL_VECTOR, LVT_MASKED, Lvt, Registers};

pub(crate) use msr::GeneralProtection;
pub(super) use msr::owns;

/// The local APIC of CPU 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LocalApic {
    registers: Registers,
    timer: ApicTimer,
    frequency: TscFrequency,
}

impl LocalApic {
    /// A local APIC as firmware leaves it: LINT0 takes the PIC's interrupts, LINT1 is the NMI.
    pub(super) fn new(frequency: TscFrequency) -> Self {
        let mut registers = Registers::after_reset();
        registers.wire_virtually();
        Self { registers, timer: ApicTimer::new(frequency), frequency }
    }

    /// Whether both tell time by the same TSC.
    pub(super) fn ticks_like(&self, other: &Self) -> bool {
        self.frequency == other.frequency && self.timer.ticks_like(&other.timer)
    }

    /// The vector to interrupt the CPU with: requested, and of a higher class than all that goes on.
    pub(super) fn pending_vector(&self) -> Option<u8> {
        let requested = self.registers.requested.highest()?;
        (requested >> 4 > self.processor_priority() >> 4).then_some(requested)
    }

    /// The CPU takes the pending vector: it is in service from now on.
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending_vector()?;
        self.registers.requested.assign(vector, false);
        self.registers.in_service.assign(vector, true);
        Some(vector)
    }

    /// Ends the interrupt in service. Returns its vector if it was level-triggered: the I/O APIC must hear of it.
    pub(super) fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.registers.in_service.highest()?;
        self.registers.in_service.assign(vector, false);
        self.registers.level_triggered.contains(vector).then_some(vector)
    }

    /// Whether an NMI waits.
    pub(super) fn nmi_pending(&self) -> bool {
        self.registers.nmi
    }

    /// The CPU takes the NMI.
    pub(super) fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.registers.nmi)
    }

    /// The task priority as CR8 shows it, 0 to 15.
    pub(super) fn cr8(&self) -> u8 {
        self.registers.task_priority >> 4
    }

    /// Sets the task priority by CR8; bits above the low four are dropped.
    pub(super) fn set_cr8(&mut self, value: u8) {
        self.registers.task_priority = value << 4;
    }

    /// Takes a message off the bus; whether it was for this CPU and has been accepted.
    pub(super) fn receive(&mut self, message: &Message) -> bool {
        if !self.registers.enabled() || !self.is_addressed(message.logical, message.destination) {
            return false;
        }
        self.deliver(message.mode, message.vector, message.level)
    }

    /// Whether the PIC's interrupts reach the CPU: directly while the local APIC is off, else through LINT0.
    pub(super) fn accepts_pic(&self) -> bool {
        let entry = self.registers.lvt(Lvt::Lint0);
        !self.registers.enabled()
            || (entry & LVT_MASKED == 0 && DeliveryMode::of(entry) == DeliveryMode::ExtInt)
    }

    /// The wire at LINT0 has risen. (What LINT0 does as the PIC's interrupt is [`Self::accepts_pic`].)
    pub(super) fn raise_lint0(&mut self) {
        if self.registers.enabled() {
            self.fire_local(Lvt::Lint0);
        }
    }

    /// The TSC at which the timer fires next.
    pub(super) fn next_tsc(&self) -> Option<u64> {
        self.timer.next_tsc()
    }

    /// Brings the timer to `tsc`.
    pub(super) fn advance(&mut self, tsc: u64) {
        if self.timer.advance(tsc) {
            self.fire_local(Lvt::Timer);
        }
    }

    /// The class below which nothing interrupts, and the subclass.
    fn processor_priority(&self) -> u8 {
        let in_service = self.registers.in_service.highest().unwrap_or(0);
        let task = self.registers.task_priority;
        if task >> 4 >= in_service >> 4 { task } else { in_service & 0xf0 }
    }

    /// Does what an entry of the local vector table says, unless it is masked.
    fn fire_local(&mut self, source: Lvt) {
        let entry = self.registers.lvt(source);
        if entry & LVT_MASKED == 0 {
            // Timer and error entries have no delivery mode: those bits are 0 there, which is fixed.
            self.deliver(DeliveryMode::of(entry), entry.to_le_bytes()[0], false);
        }
    }

    /// Delivers an interrupt; whether it was accepted. With one CPU there is nobody to reset or start.
    fn deliver(&mut self, mode: DeliveryMode, vector: u8, level: bool) -> bool {
        match mode {
            DeliveryMode::Nmi => {
                self.registers.nmi = true;
                true
            }
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if self.registers.software_enabled() => {
                self.request(vector, level)
            }
            _ => false,
        }
    }

    fn request(&mut self, vector: u8, level: bool) -> bool {
        if vector < FIRST_LEGAL_VECTOR {
            self.report_error(ERROR_RECEIVED_ILLEGAL);
            return false;
        }
        self.registers.requested.assign(vector, true);
        self.registers.level_triggered.assign(vector, level);
        true
    }

    /// Collects an error for the error status register and interrupts, once until the guest has looked.
    fn report_error(&mut self, error: u32) {
        if self.registers.new_errors & error == 0 {
            self.registers.new_errors |= error;
            self.fire_local(Lvt::Error);
        }
    }

    /// Whether `destination` names this CPU. Intel SDM volume 3A, sections 11.6.2 and 11.12.10.
    fn is_addressed(&self, logical: bool, destination: u32) -> bool {
        let registers = &self.registers;
        if destination == EVERYONE {
            return true;
        }
        if !logical {
            return destination == registers.id;
        }
        let own = registers.logical_id();
        if registers.x2apic() {
            own >> 16 == destination >> 16 && own & destination & 0xffff != 0
        } else if registers.destination_format >> 28 == 0 {
            own >> 4 == destination >> 4 && own & destination & 0xf != 0
        } else {
            own & destination != 0
        }
    }
}
