//! The interrupt controllers and timers wired to each other. No locks and no threads: `Controllers` has them.
//!
//! ```text
//!   IRQ 0..24 ──┬────────────────► I/O APIC ── message ──► local APIC ──► CPU
//!               └─ 0..16 ─► PIC ── INTR ────── LINT0 ───────┘  │            ▲
//!   PIT ─ IRQ 0           (directly to the CPU while the local APIC is off) ┘
//! ```
//!
//! Inputs are identity-mapped, IRQ 0 included, as the MP table says and as KVM's default routing has it. A machine may be
//! without the PIC: its inputs then lead nowhere, and its ports are empty.

use serde::{Deserialize, Serialize};

use super::frequency::TscFrequency;
use super::io_apic::IoApic;
use super::local_apic::LocalApic;
use super::pic::Pic;
use super::pit::Pit;
use super::{Accepts, GeneralProtection, Interrupt};

const TIMER_IRQ: u32 = 0;

/// Everything that interrupts the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chipset {
    local_apic: LocalApic,
    io_apic: IoApic,
    pic: Option<Pic>,
    pit: Pit,
    /// The PIC's output as LINT0 last saw it.
    lint0: bool,
}

impl Chipset {
    /// The chipset as firmware leaves it, with or without the PIC.
    pub(super) fn new(frequency: TscFrequency, has_pic: bool) -> Self {
        Self {
            local_apic: LocalApic::new(frequency),
            io_apic: IoApic::new(),
            pic: has_pic.then(Pic::new),
            pit: Pit::new(frequency),
            lint0: false,
        }
    }

    /// Becomes `other`, if that is a state that these controllers can be in.
    pub(super) fn replace_by(&mut self, other: Self) -> Result<(), &'static str> {
        if !other.local_apic.ticks_like(&self.local_apic) || !other.pit.ticks_like(&self.pit) {
            return Err("the TSC ticked at another frequency");
        }
        if !other.pit.is_possible() || other.pic.as_ref().is_some_and(|pic| !pic.is_possible()) {
            return Err("a register has a value that it cannot have");
        }
        *self = other;
        Ok(())
    }

    /// Brings the timers to `tsc`.
    pub(super) fn advance(&mut self, tsc: u64) {
        self.local_apic.advance(tsc);
        if self.pit.advance(tsc) {
            self.pulse(TIMER_IRQ);
        }
    }

    /// The TSC of the next timer event.
    pub(super) fn next_tsc(&self) -> Option<u64> {
        match (self.local_apic.next_tsc(), self.pit.next_tsc()) {
            (Some(apic), Some(pit)) => Some(apic.min(pit)),
            (apic, pit) => apic.or(pit),
        }
    }

    /// Raises and lowers input `irq` of both controllers.
    pub(super) fn pulse(&mut self, irq: u32) {
        for high in [true, false] {
            if let Some(pic) = &mut self.pic {
                pic.set_input(irq, high);
            }
            self.io_apic.set_input(irq, high, |message| self.local_apic.receive(message));
        }
    }

    /// Which interrupts wait that the CPU can be given.
    pub(super) fn pending(&self) -> Accepts {
        Accepts {
            maskable: self.pic_interrupts() || self.local_apic.pending_vector().is_some(),
            nmi: self.local_apic.nmi_pending(),
        }
    }

    /// Gives the CPU the most urgent interrupt that it accepts.
    pub(super) fn take(&mut self, accepts: Accepts) -> Option<Interrupt> {
        if accepts.nmi && self.local_apic.take_nmi() {
            return Some(Interrupt::Nmi);
        }
        if !accepts.maskable {
            return None;
        }
        if self.pic_interrupts()
            && let Some(pic) = &mut self.pic
        {
            return Some(Interrupt::Vector(pic.acknowledge()));
        }
        self.local_apic.acknowledge().map(Interrupt::Vector)
    }

    /// The task priority, 0 to 15.
    pub(super) fn cr8(&self) -> u8 {
        self.local_apic.cr8()
    }

    /// Sets the task priority.
    pub(super) fn set_cr8(&mut self, value: u8) {
        self.local_apic.set_cr8(value);
    }

    /// Reads an MSR that the local APIC owns.
    pub(super) fn read_msr(&self, index: u32, tsc: u64) -> Result<u64, GeneralProtection> {
        self.local_apic.read_msr(index, tsc)
    }

    /// Writes an MSR that the local APIC owns.
    pub(super) fn write_msr(&mut self, index: u32, value: u64, tsc: u64) -> Result<(), GeneralProtection> {
        let ended = self.local_apic.write_msr(index, value, tsc)?;
        self.broadcast_end(ended);
        Ok(())
    }

    /// Fills `data` with what is at `address`; whether anything is.
    pub(super) fn read_mmio(&mut self, address: u64, data: &mut [u8], tsc: u64) -> bool {
        if let Some(offset) = self.local_apic.mmio_offset(address) {
            self.local_apic.read_mmio(offset, data, tsc);
        } else if let Some(offset) = IoApic::mmio_offset(address) {
            self.io_apic.read_mmio(offset, data);
        } else {
            return false;
        }
        true
    }

    /// Writes `data` at `address`; whether anything is there.
    pub(super) fn write_mmio(&mut self, address: u64, data: &[u8], tsc: u64) -> bool {
        if let Some(offset) = self.local_apic.mmio_offset(address) {
            let ended = self.local_apic.write_mmio(offset, data, tsc);
            self.broadcast_end(ended);
        } else if let Some(offset) = IoApic::mmio_offset(address) {
            self.io_apic.write_mmio(offset, data, |message| self.local_apic.receive(message));
        } else {
            return false;
        }
        true
    }

    /// Reads a byte from `port`; `None` if nothing here has that port.
    pub(super) fn read_port(&mut self, port: u16, tsc: u64) -> Option<u8> {
        self.pic.as_mut().and_then(|pic| pic.read_port(port)).or_else(|| self.pit.read_port(port, tsc))
    }

    /// Writes a byte to `port`; whether anything here has that port.
    pub(super) fn write_port(&mut self, port: u16, value: u8, tsc: u64) -> bool {
        self.pic.as_mut().is_some_and(|pic| pic.write_port(port, value))
            || self.pit.write_port(port, value, tsc)
    }

    /// Lets LINT0 see the PIC's output. To be called after each change.
    pub(super) fn settle(&mut self) {
        let output = self.pic_output();
        if output && !self.lint0 {
            self.local_apic.raise_lint0();
        }
        self.lint0 = output;
    }

    fn pic_interrupts(&self) -> bool {
        self.pic_output() && self.local_apic.accepts_pic()
    }

    fn pic_output(&self) -> bool {
        self.pic.as_ref().is_some_and(Pic::output)
    }

    fn broadcast_end(&mut self, vector: Option<u8>) {
        if let Some(vector) = vector {
            self.io_apic.end_of_interrupt(vector, |message| self.local_apic.receive(message));
        }
    }
}
