//! xAPIC mode: the registers in a page of memory, 32 bits at every 16th byte. Intel SDM volume 3A, section 11.4.1.

use super::super::message::widen_destination;
use super::LocalApic;
use super::registers::{self as register, BASE_ADDRESS, ERROR_ILLEGAL_REGISTER};

const PAGE: u64 = 0x1000;
const HIGH_HALF: u32 = 32;

impl LocalApic {
    /// The offset of `address` in the page of registers, where it is in there. The page is there in every mode, but
    /// answers in xAPIC mode only.
    pub(in super::super) fn mmio_offset(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.registers.base & BASE_ADDRESS).filter(|offset| *offset < PAGE)
    }

    /// Fills `data` with what is at `offset` of the page: parts of one register, 0 if they are not in one.
    pub(in super::super) fn read_mmio(&mut self, offset: u64, data: &mut [u8], tsc: u64) {
        if !self.answers_mmio() {
            data.fill(0xff);
            return;
        }
        let value = self.read_page(number(offset), tsc).to_le_bytes();
        let part = value.iter().skip(usize::from(offset.to_le_bytes()[0] & 0xf));
        data.fill(0);
        for (byte, value) in data.iter_mut().zip(part) {
            *byte = *value;
        }
    }

    /// Writes at `offset` of the page; other than aligned and 32 bits wide it is dropped. Returns what
    /// [`end_of_interrupt`](Self::end_of_interrupt) does.
    pub(in super::super) fn write_mmio(&mut self, offset: u64, data: &[u8], tsc: u64) -> Option<u8> {
        let value = u32::from_le_bytes(data.try_into().ok()?);
        if !self.answers_mmio() || offset & 0xf != 0 {
            return None;
        }
        let registers = &mut self.registers;
        match number(offset) {
            // Read-only. (The id could be written on old CPUs.)
            register::ID
            | register::VERSION
            | register::ARBITRATION_PRIORITY
            | register::PROCESSOR_PRIORITY
            | register::REMOTE_READ
            | register::IN_SERVICE..register::ERROR_STATUS
            | register::CURRENT_COUNT => {}
            register::LOGICAL_DESTINATION => registers.logical_destination = value & 0xff00_0000,
            register::DESTINATION_FORMAT => registers.destination_format = value | 0x0fff_ffff,
            register::COMMAND => {
                let command = value & 0x000c_cfff;
                registers.command = registers.command & !u64::from(u32::MAX) | u64::from(command);
                let destination = registers.command.to_le_bytes()[7];
                self.send(command, widen_destination(destination));
            }
            register::COMMAND_HIGH => {
                let low = registers.command & u64::from(u32::MAX);
                registers.command = u64::from(value & 0xff00_0000) << HIGH_HALF | low;
            }
            number => return self.write(number, value, tsc),
        }
        None
    }

    fn answers_mmio(&self) -> bool {
        self.registers.enabled() && !self.registers.x2apic()
    }

    /// A register that reads in this mode, or 0 and an error.
    fn read_page(&mut self, number: u8, tsc: u64) -> u32 {
        match number {
            register::DESTINATION_FORMAT => self.registers.destination_format,
            register::COMMAND => low_half(self.registers.command),
            register::COMMAND_HIGH => low_half(self.registers.command >> HIGH_HALF),
            register::END_OF_INTERRUPT | register::ARBITRATION_PRIORITY | register::REMOTE_READ => 0,
            number => self.read(number, tsc).unwrap_or_else(|| {
                self.report_error(ERROR_ILLEGAL_REGISTER);
                0
            }),
        }
    }
}

/// The number of the register at `offset` of the page.
fn number(offset: u64) -> u8 {
    (offset >> 4).to_le_bytes()[0]
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}
