//! The two 8259A interrupt controllers of a PC, the second behind input 2 of the first.

mod chip;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use chip::Chip;

/// The input of the first chip that is the second one's output.
const CASCADE: u8 = 2;
/// Inputs that software cannot make level-triggered: timer, keyboard, cascade; clock and coprocessor.
const EDGE_ONLY: [u8; 2] = [0b0000_0111, 0b0010_0001];
/// The cascade in fact follows the other chip, whose request may go away again.
const CASCADE_LEVEL: u8 = 1 << CASCADE;
/// Answer to a poll: there is an interrupt, its input is in the low bits.
const POLL_FOUND: u8 = 0x80;

/// The pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pic {
    first: Chip,
    second: Chip,
}

impl Pic {
    /// Both as firmware leaves them: initialised somehow, everything masked.
    pub(super) fn new() -> Self {
        let mut first = Chip::new();
        first.set_level(CASCADE_LEVEL);
        Self { first, second: Chip::new() }
    }

    /// Whether a guest can have brought it into this state.
    pub(super) fn is_possible(&self) -> bool {
        self.first.is_possible() && self.second.is_possible()
    }

    /// Sets input `irq`, 0 to 15. There is no input 2: it is the cascade.
    pub(super) fn set_input(&mut self, irq: u32, high: bool) {
        match u8::try_from(irq) {
            Ok(CASCADE) => return,
            Ok(pin @ 0..8) => self.first.set_input(pin, high),
            Ok(pin @ 8..16) => self.second.set_input(pin - 8, high),
            _ => return,
        }
        self.cascade();
    }

    /// Whether an interrupt waits for the CPU.
    pub(super) fn output(&self) -> bool {
        self.first.pending(Some(CASCADE)).is_some()
    }

    /// The CPU takes the interrupt; its vector.
    pub(super) fn acknowledge(&mut self) -> u8 {
        let pin = self.first.pending(Some(CASCADE));
        let mut vector = self.first.acknowledge(pin);
        if pin == Some(CASCADE) {
            vector = self.second.acknowledge(self.second.pending(None));
        }
        self.cascade();
        vector
    }

    /// Reads `port`; `None` if it is not one of theirs.
    pub(super) fn read_port(&mut self, port: u16) -> Option<u8> {
        let value = match port {
            0x20 | 0x21 if self.first.take_poll() => {
                let pin = self.first.pending(Some(CASCADE));
                poll(&mut self.first, pin)
            }
            0xa0 | 0xa1 if self.second.take_poll() => {
                let pin = self.second.pending(None);
                poll(&mut self.second, pin)
            }
            0x20 => self.first.read_command(),
            0x21 => self.first.read_data(),
            0xa0 => self.second.read_command(),
            0xa1 => self.second.read_data(),
            0x4d0 => self.first.level() & !EDGE_ONLY[0],
            0x4d1 => self.second.level(),
            _ => return None,
        };
        self.cascade();
        Some(value)
    }

    /// Writes `port`; whether it is one of theirs.
    pub(super) fn write_port(&mut self, port: u16, value: u8) -> bool {
        match port {
            0x20 => self.first.write_command(value),
            0x21 => self.first.write_data(value),
            0xa0 => self.second.write_command(value),
            0xa1 => self.second.write_data(value),
            0x4d0 => self.first.set_level(value & !EDGE_ONLY[0] | CASCADE_LEVEL),
            0x4d1 => self.second.set_level(value & !EDGE_ONLY[1]),
            _ => return false,
        }
        self.cascade();
        true
    }

    /// Carries the second chip's output to the first.
    fn cascade(&mut self) {
        self.first.set_input(CASCADE, self.second.pending(None).is_some());
    }
}

/// What a poll command reads: it acknowledges like the CPU does.
fn poll(chip: &mut Chip, pin: Option<u8>) -> u8 {
    match pin {
        Some(pin) => {
            chip.acknowledge(Some(pin));
            POLL_FOUND | pin
        }
        None => 0,
    }
}
