//! The two sleep registers of ACPI's hardware-reduced profile: the guest powers off by one write.
//! ACPI 6.5, section 4.8.3.7 ("Sleep Control Register", "Sleep Status Register").

use std::sync::Arc;

use crate::bus::BusDevice;
use crate::machine::{Requests, VmExit};

/// First port of the window.
pub(crate) const PORTS: u64 = 0x600;
/// The window's length.
pub(crate) const PORTS_LEN: u64 = 2;
/// Offset of the control register.
pub(crate) const CONTROL: u64 = 0;
/// Offset of the status register.
pub(crate) const STATUS: u64 = 1;
/// The sleep type that means S5, as the tables say (`_S5_`).
pub(crate) const SLEEP_TYPE_OFF: u8 = 5;

/// Control: bits 4:2 are the sleep type, bit 5 enters it.
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers.
pub(crate) struct PowerControl {
    requests: Arc<Requests>,
}

impl PowerControl {
    /// Registers that end the guest through `requests`.
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests }
    }
}

impl BusDevice for PowerControl {
    /// Both registers read as zero: the control register keeps nothing, and the machine has never been asleep.
    fn read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let &[byte] = data else { return };
        let sleep_type = (byte & SLEEP_TYPE_MASK) >> SLEEP_TYPE_SHIFT;
        if offset == CONTROL && byte & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF {
            self.requests.end(VmExit::PoweredOff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Action;

    #[test]
    fn entering_s5_powers_off() {
        let requests = Arc::new(Requests::new(1));
        let mut power = PowerControl::new(requests.clone());
        power.write(CONTROL, &[SLEEP_ENABLE | SLEEP_TYPE_OFF << 2]);
        assert_eq!(requests.take(0), Action::Stop(VmExit::PoweredOff));
    }

    #[test]
    fn nothing_else_does() {
        let requests = Arc::new(Requests::new(1));
        let mut power = PowerControl::new(requests.clone());
        let off = SLEEP_ENABLE | SLEEP_TYPE_OFF << 2;
        for (offset, data) in [
            (CONTROL, &[SLEEP_TYPE_OFF << 2][..]),
            (CONTROL, &[SLEEP_ENABLE | 3 << 2]),
            (STATUS, &[0x80]),
            (STATUS, &[off]),
            (CONTROL, &[off, 0]),
            (CONTROL, &[]),
        ] {
            power.write(offset, data);
            assert_eq!(requests.take(0), Action::Resume, "{data:x?} at {offset}");
        }
        let mut data = [0xff; 2];
        power.read(CONTROL, &mut data);
        assert_eq!(data, [0, 0]);
    }
}
