//! The I/O APIC: 24 inputs, each with an entry that says which interrupt it makes. Intel 82093AA data sheet.
//!
//! ```text
//!   edge    line rises ── not masked? ──► message                 a rise while masked is lost
//!   level   line is high ── not masked, not in service? ──► message, remote IRR set
//!                └──────────── end of interrupt clears remote IRR ◄┘ still high: again
//! ```

use serde::{Deserialize, Serialize};

use super::message::{DeliveryMode, Message, widen_destination};
use crate::memory::layout;

/// Length of the window of registers, as in KVM.
const WINDOW: u64 = 0x100;
const SELECT: u64 = 0x00;
const DATA: u64 = 0x10;

const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const ENTRIES: u8 = 0x10;
/// Version 0x11, input 23 is the last.
const VERSION_VALUE: u32 = 0x0017_0011;
const ID_BITS: u32 = 0x0f00_0000;

const INPUTS: usize = layout::IOAPIC_INPUTS as usize;

/// Low half of an entry: destination is a set of CPUs.
const LOGICAL: u32 = 1 << 11;
/// Low half: a level-triggered interrupt is being served.
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// Low half: all but delivery status and remote IRR.
const WRITABLE: u32 = 0x1_afff;
const DESTINATION: u32 = 0xff00_0000;

/// An entry of the redirection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    low: u32,
    high: u32,
}

impl Entry {
    fn is(self, bits: u32) -> bool {
        self.low & bits != 0
    }

    fn vector(self) -> u8 {
        self.low.to_le_bytes()[0]
    }

    fn message(self) -> Message {
        Message {
            mode: DeliveryMode::of(self.low),
            vector: self.vector(),
            level: self.is(LEVEL),
            logical: self.is(LOGICAL),
            destination: widen_destination(self.high.to_le_bytes()[3]),
        }
    }
}

/// The I/O APIC's registers and the state of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IoApic {
    select: u8,
    id: u32,
    entries: [Entry; INPUTS],
    /// One bit for each input that is high.
    high: u32,
}

impl IoApic {
    /// An I/O APIC as after reset: everything masked.
    pub(super) fn new() -> Self {
        Self { select: 0, id: 0, entries: [Entry { low: MASKED, high: 0 }; INPUTS], high: 0 }
    }

    /// Sets input `pin`. Messages go to `deliver`, which says whether a CPU has accepted them.
    pub(super) fn set_input(&mut self, pin: u32, high: bool, deliver: impl FnMut(&Message) -> bool) {
        let Some(entry) = self.entry(pin) else { return };
        let bit = 1 << pin;
        let rises = high && self.high & bit == 0;
        self.high = if high { self.high | bit } else { self.high & !bit };
        if rises || (high && entry.is(LEVEL)) {
            self.serve(pin, deliver);
        }
    }

    /// The CPU has ended a level-triggered interrupt with `vector`: inputs that are still high interrupt again.
    pub(super) fn end_of_interrupt(&mut self, vector: u8, mut deliver: impl FnMut(&Message) -> bool) {
        for (pin, entry) in (0..).zip(self.entries) {
            if entry.vector() == vector && entry.is(LEVEL) && entry.is(REMOTE_IRR) {
                self.set_low(pin, entry.low & !REMOTE_IRR);
                self.serve_level(pin, &mut deliver);
            }
        }
    }

    /// The offset of `address` in the window of registers, where it is in there.
    pub(super) fn mmio_offset(address: u64) -> Option<u64> {
        address.checked_sub(layout::IOAPIC.into()).filter(|offset| *offset < WINDOW)
    }

    /// Fills `data` with the register at `offset` of the window.
    pub(super) fn read_mmio(&self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            SELECT => self.select.into(),
            DATA => self.read_selected(),
            _ => 0,
        };
        data.fill(0);
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    /// Writes the register at `offset` of the window.
    pub(super) fn write_mmio(&mut self, offset: u64, data: &[u8], deliver: impl FnMut(&Message) -> bool) {
        let mut value = [0; 4];
        for (byte, data) in value.iter_mut().zip(data) {
            *byte = *data;
        }
        match offset {
            SELECT => self.select = value[0],
            DATA => self.write_selected(u32::from_le_bytes(value), deliver),
            _ => {}
        }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            register => match selected_half(register) {
                Some((pin, upper)) => {
                    self.entry(pin).map_or(u32::MAX, |entry| if upper { entry.high } else { entry.low })
                }
                None => 0,
            },
        }
    }

    fn write_selected(&mut self, value: u32, deliver: impl FnMut(&Message) -> bool) {
        if self.select == ID {
            self.id = value & ID_BITS;
        }
        let Some((pin, upper)) = selected_half(self.select) else { return };
        let Some(entry) = self.entry(pin) else { return };
        if upper {
            if let Some(entry) = self.entries.get_mut(pin as usize) {
                entry.high = value & DESTINATION;
            }
            return;
        }
        // Edge mode forgets what is in service: the way for software to end it without the local APIC's broadcast.
        let kept = if value & LEVEL == 0 { 0 } else { entry.low & REMOTE_IRR };
        self.set_low(pin, value & WRITABLE | kept);
        self.serve_level(pin, deliver);
    }

    fn entry(&self, pin: u32) -> Option<Entry> {
        self.entries.get(usize::try_from(pin).ok()?).copied()
    }

    fn set_low(&mut self, pin: u32, low: u32) {
        if let Some(entry) = self.entries.get_mut(pin as usize) {
            entry.low = low;
        }
    }

    /// Serves `pin` if it is level-triggered and high.
    fn serve_level(&mut self, pin: u32, deliver: impl FnMut(&Message) -> bool) {
        if self.high & 1 << pin != 0 && self.entry(pin).is_some_and(|entry| entry.is(LEVEL)) {
            self.serve(pin, deliver);
        }
    }

    /// Sends the message of `pin`, unless it is masked or in service.
    fn serve(&mut self, pin: u32, mut deliver: impl FnMut(&Message) -> bool) {
        let Some(entry) = self.entry(pin) else { return };
        if entry.is(MASKED) || (entry.is(LEVEL) && entry.is(REMOTE_IRR)) {
            return;
        }
        if deliver(&entry.message()) && entry.is(LEVEL) {
            self.set_low(pin, entry.low | REMOTE_IRR);
        }
    }
}

/// The entry that `register` is a half of, and whether it is the upper half.
fn selected_half(register: u8) -> Option<(u32, bool)> {
    let index = register.checked_sub(ENTRIES)?;
    Some((u32::from(index / 2), index % 2 == 1))
}

#[cfg(test)]
mod tests;
