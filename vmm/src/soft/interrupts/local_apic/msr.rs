//! The local APIC's model-specific registers: IA32_APIC_BASE, IA32_TSC_DEADLINE and, in x2APIC mode, all the others.
//! Intel SDM volume 3A, section 11.12.1.

use super::LocalApic;
use super::registers::{self as register, Lvt};

const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;

/// Bits of the interrupt command that must be zero. (Bit 12, busy in xAPIC mode, is ignored.)
const COMMAND_RESERVED: u64 = 0xfff3_2000;
/// Interrupt command: busy.
const COMMAND_BUSY: u64 = 1 << 12;

/// The access must raise a general protection fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("general protection fault")]
pub(crate) struct GeneralProtection;

/// Whether the local APIC answers MSR `index`, if only with a fault.
pub(in super::super) fn owns(index: u32) -> bool {
    matches!(index, APIC_BASE | TSC_DEADLINE | X2APIC..=X2APIC_LAST)
}

impl LocalApic {
    /// Reads MSR `index`.
    ///
    /// # Errors
    /// There is no such register now, or it cannot be read.
    pub(in super::super) fn read_msr(&self, index: u32, tsc: u64) -> Result<u64, GeneralProtection> {
        match index {
            APIC_BASE => Ok(self.registers.base),
            TSC_DEADLINE => Ok(self.timer.deadline()),
            _ => match self.x2apic_register(index)? {
                register::COMMAND => Ok(self.registers.command),
                number => self.read(number, tsc).map(u64::from).ok_or(GeneralProtection),
            },
        }
    }

    /// Writes MSR `index`. Returns what [`end_of_interrupt`](Self::end_of_interrupt) does.
    ///
    /// # Errors
    /// There is no such register now, it cannot be written, or a reserved bit is set.
    pub(in super::super) fn write_msr(
        &mut self,
        index: u32,
        value: u64,
        tsc: u64,
    ) -> Result<Option<u8>, GeneralProtection> {
        match index {
            TSC_DEADLINE => {
                self.timer.set_deadline(value);
                self.advance(tsc);
                Ok(None)
            }
            APIC_BASE => self.write_base(value).map(|()| None),
            _ => self.write_x2apic(self.x2apic_register(index)?, value, tsc),
        }
    }

    /// The number of the register behind `index`; there is none outside x2APIC mode.
    fn x2apic_register(&self, index: u32) -> Result<u8, GeneralProtection> {
        let number = index.checked_sub(X2APIC).and_then(|number| u8::try_from(number).ok());
        number.filter(|_| self.registers.x2apic()).ok_or(GeneralProtection)
    }

    fn write_x2apic(&mut self, number: u8, value: u64, tsc: u64) -> Result<Option<u8>, GeneralProtection> {
        let reserved = reserved_bits(number).ok_or(GeneralProtection)?;
        if value & reserved != 0 {
            return Err(GeneralProtection);
        }
        let [low, high] = halves(value);
        Ok(match number {
            register::COMMAND => {
                self.registers.command = value & !COMMAND_BUSY;
                self.send(low, high);
                None
            }
            register::SELF_IPI => {
                self.send(low, self.registers.id);
                None
            }
            number => self.write(number, low, tsc),
        })
    }
}

/// The bits of register `number` that must be written as zero; `None` if it cannot be written.
fn reserved_bits(number: u8) -> Option<u64> {
    let writable: u32 = match number {
        register::COMMAND => return Some(COMMAND_RESERVED),
        register::END_OF_INTERRUPT | register::ERROR_STATUS => 0,
        register::TASK_PRIORITY | register::SELF_IPI => 0xff,
        register::SPURIOUS => 0x3ff,
        register::LVT..=register::LVT_LAST => Lvt::of(number)?.defined_bits(),
        register::INITIAL_COUNT => u32::MAX,
        register::DIVIDE_CONFIGURATION => 0b1011,
        _ => return None,
    };
    Some(!u64::from(writable))
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
