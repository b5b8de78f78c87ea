//! A keyboard controller without a keyboard: its job is the reset line.
//!
//! It answers what kernels ask while they look for a keyboard, always at once, and a reset pulse ends the guest.
//! IBM PS/2 Hardware Interface Technical Reference, "Keyboard/Auxiliary Device Controller".

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::BusDevice;
use crate::machine::{Requests, VmExit};

/// First port of the window; data at 0x60, status and commands at 0x64.
pub(crate) const PORTS: u64 = 0x60;
/// The window's length. Port 0x61 inside it belongs to the timer, which KVM answers itself.
pub(crate) const PORTS_LEN: u64 = 5;
const DATA: u64 = 0;
/// Offset of the command and status register.
pub(crate) const COMMAND: u64 = 4;

/// Status: a byte waits to be read. (Bit 1, input buffer full, is never set: we are never busy.)
const OUTPUT_FULL: u8 = 1;
/// Status: the self-test has passed.
const SYSTEM_FLAG: u8 = 1 << 2;
/// Control byte: both interfaces disabled, system flag.
const CONTROL_DEFAULT: u8 = 1 << 5 | 1 << 4 | SYSTEM_FLAG;

const READ_CONTROL: u8 = 0x20;
const WRITE_CONTROL: u8 = 0x60;
const TEST_CONTROLLER: u8 = 0xaa;
const TEST_KEYBOARD_LINE: u8 = 0xab;
const READ_OUTPUT_PORT: u8 = 0xd0;
/// The command that pulses the reset line.
pub(crate) const PULSE_RESET: u8 = 0xfe;
const TEST_PASSED: u8 = 0x55;
/// Output port: processor not in reset, A20 open.
const OUTPUT_PORT: u8 = 0b11;

/// The controller.
pub(crate) struct I8042 {
    requests: Arc<Requests>,
    control: u8,
    /// The next data byte is the control byte.
    expects_control: bool,
    /// Answers not yet read; a command replaces them, so there is at most one.
    output: VecDeque<u8>,
}

impl I8042 {
    /// A controller whose reset line ends the guest through `requests`.
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, control: CONTROL_DEFAULT, expects_control: false, output: VecDeque::new() }
    }

    fn command(&mut self, command: u8) {
        self.expects_control = command == WRITE_CONTROL;
        self.output.clear();
        match command {
            READ_CONTROL => self.output.push_back(self.control),
            TEST_CONTROLLER => self.output.push_back(TEST_PASSED),
            TEST_KEYBOARD_LINE => self.output.push_back(0),
            READ_OUTPUT_PORT => self.output.push_back(OUTPUT_PORT),
            PULSE_RESET => self.requests.end(VmExit::Reset),
            _ => {}
        }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let [byte] = data else {
            data.fill(0xff);
            return;
        };
        *byte = match offset {
            DATA => self.output.pop_front().unwrap_or(0),
            COMMAND => SYSTEM_FLAG | if self.output.is_empty() { 0 } else { OUTPUT_FULL },
            _ => 0xff,
        };
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let &[byte] = data else { return };
        match offset {
            COMMAND => self.command(byte),
            DATA if self.expects_control => {
                self.control = byte;
                self.expects_control = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Action;

    fn read(controller: &mut I8042, offset: u64) -> u8 {
        let mut byte = [0];
        controller.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn it_is_never_busy_and_a_pulse_resets() {
        let requests = Arc::new(Requests::default());
        let mut controller = I8042::new(requests.clone());
        assert_eq!(read(&mut controller, COMMAND), SYSTEM_FLAG);
        assert_eq!(requests.take(0), Action::Resume);
        controller.write(COMMAND, &[PULSE_RESET]);
        assert_eq!(requests.take(0), Action::Stop(VmExit::Reset));
    }

    #[test]
    fn it_passes_its_self_test_and_keeps_its_control_byte() {
        let mut controller = I8042::new(Arc::default());
        controller.write(COMMAND, &[TEST_CONTROLLER]);
        assert_eq!(read(&mut controller, COMMAND) & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(read(&mut controller, DATA), TEST_PASSED);
        controller.write(COMMAND, &[WRITE_CONTROL]);
        controller.write(DATA, &[0x47]);
        controller.write(COMMAND, &[READ_CONTROL]);
        assert_eq!(read(&mut controller, DATA), 0x47);
        assert_eq!(read(&mut controller, COMMAND) & OUTPUT_FULL, 0);
    }

    #[test]
    fn wide_accesses_and_unused_ports_are_harmless() {
        let mut controller = I8042::new(Arc::default());
        controller.write(COMMAND, &[PULSE_RESET, 0]);
        assert_eq!(controller.requests.take(0), Action::Resume);
        assert_eq!(read(&mut controller, 2), 0xff);
    }
}
