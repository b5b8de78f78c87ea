//! Reading and writing a register by its number, alike in xAPIC and x2APIC mode.

use super::super::apic_timer::TimerMode;
use super::LocalApic;
use super::registers::{self as register, ERROR_ILLEGAL_REGISTER, Lvt, SPURIOUS_ENABLED};

impl LocalApic {
    /// The 32-bit register `number`; `None` where there is none to read.
    pub(super) fn read(&self, number: u8, tsc: u64) -> Option<u32> {
        let registers = &self.registers;
        Some(match number {
            register::ID if registers.x2apic() => registers.id,
            register::ID => registers.id << 24,
            register::VERSION => register::VERSION_VALUE,
            register::TASK_PRIORITY => registers.task_priority.into(),
            register::PROCESSOR_PRIORITY => self.processor_priority().into(),
            register::LOGICAL_DESTINATION if registers.x2apic() => registers.logical_id(),
            register::LOGICAL_DESTINATION => registers.logical_destination,
            register::SPURIOUS => registers.spurious,
            register::IN_SERVICE..register::LEVEL_TRIGGERED => {
                registers.in_service.word(number - register::IN_SERVICE)
            }
            register::LEVEL_TRIGGERED..register::REQUESTED => {
                registers.level_triggered.word(number - register::LEVEL_TRIGGERED)
            }
            register::REQUESTED..register::ERROR_STATUS => {
                registers.requested.word(number - register::REQUESTED)
            }
            register::ERROR_STATUS => registers.error_status,
            register::LVT..=register::LVT_LAST => registers.lvt(Lvt::of(number)?),
            register::INITIAL_COUNT => self.timer.initial_count(),
            register::CURRENT_COUNT => self.timer.current_count(tsc),
            register::DIVIDE_CONFIGURATION => self.timer.divide_configuration(),
            _ => return None,
        })
    }

    /// Writes the 32-bit register `number`; undefined bits are dropped. Returns what
    /// [`end_of_interrupt`](Self::end_of_interrupt) does.
    pub(super) fn write(&mut self, number: u8, value: u32, tsc: u64) -> Option<u8> {
        let registers = &mut self.registers;
        match number {
            register::END_OF_INTERRUPT => return self.end_of_interrupt(),
            register::TASK_PRIORITY => registers.task_priority = value.to_le_bytes()[0],
            register::SPURIOUS => {
                registers.spurious = value & 0x3ff;
                if value & SPURIOUS_ENABLED == 0 {
                    registers.mask_lvt();
                }
            }
            register::ERROR_STATUS => registers.error_status = std::mem::take(&mut registers.new_errors),
            register::LVT..=register::LVT_LAST => self.write_lvt(number, value),
            register::INITIAL_COUNT => self.timer.set_initial_count(value, tsc),
            register::DIVIDE_CONFIGURATION => self.timer.set_divide_configuration(value, tsc),
            _ => self.report_error(ERROR_ILLEGAL_REGISTER),
        }
        None
    }

    fn write_lvt(&mut self, number: u8, value: u32) {
        if let Some(entry) = Lvt::of(number) {
            self.registers.set_lvt(entry, value);
            if entry == Lvt::Timer {
                self.timer.set_mode(TimerMode::of(value));
            }
        }
    }
}
