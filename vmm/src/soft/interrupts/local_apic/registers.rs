//! What a local APIC holds, and the numbers of its registers. Intel SDM volume 3A, tables 11-1 and 11-6.

use serde::{Deserialize, Serialize};

use super::super::vector_set::VectorSet;

/// Register numbers: the offset in the page divided by 16, which is also the offset from the first x2APIC MSR.
pub(super) const ID: u8 = 0x02;
pub(super) const VERSION: u8 = 0x03;
pub(super) const TASK_PRIORITY: u8 = 0x08;
pub(super) const ARBITRATION_PRIORITY: u8 = 0x09;
pub(super) const PROCESSOR_PRIORITY: u8 = 0x0a;
pub(super) const END_OF_INTERRUPT: u8 = 0x0b;
pub(super) const REMOTE_READ: u8 = 0x0c;
pub(super) const LOGICAL_DESTINATION: u8 = 0x0d;
pub(super) const DESTINATION_FORMAT: u8 = 0x0e;
pub(super) const SPURIOUS: u8 = 0x0f;
pub(super) const IN_SERVICE: u8 = 0x10;
pub(super) const LEVEL_TRIGGERED: u8 = 0x18;
pub(super) const REQUESTED: u8 = 0x20;
pub(super) const ERROR_STATUS: u8 = 0x28;
pub(super) const COMMAND: u8 = 0x30;
pub(super) const COMMAND_HIGH: u8 = 0x31;
pub(super) const LVT: u8 = 0x32;
pub(super) const LVT_LAST: u8 = 0x37;
pub(super) const INITIAL_COUNT: u8 = 0x38;
pub(super) const CURRENT_COUNT: u8 = 0x39;
pub(super) const DIVIDE_CONFIGURATION: u8 = 0x3e;
pub(super) const SELF_IPI: u8 = 0x3f;

/// Version 0x14 (an integrated APIC), entry 5 is the last of the local vector table.
pub(super) const VERSION_VALUE: u32 = 0x0005_0014;

/// IA32_APIC_BASE: this is the CPU that boots.
pub(super) const BASE_BOOT_CPU: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
pub(super) const BASE_X2APIC: u64 = 1 << 10;
/// IA32_APIC_BASE: the local APIC is on.
pub(super) const BASE_ENABLED: u64 = 1 << 11;
/// IA32_APIC_BASE: where the page of registers is.
pub(super) const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Spurious-interrupt register: the software's switch.
pub(super) const SPURIOUS_ENABLED: u32 = 1 << 8;
/// Local vector table: nothing is delivered.
pub(super) const LVT_MASKED: u32 = 1 << 16;
/// Vectors below belong to exceptions.
pub(super) const FIRST_LEGAL_VECTOR: u8 = 16;

/// Error status: a vector below 16 was to be sent.
pub(super) const ERROR_SENT_ILLEGAL: u32 = 1 << 5;
/// Error status: a vector below 16 arrived.
pub(super) const ERROR_RECEIVED_ILLEGAL: u32 = 1 << 6;
/// Error status: no such register in the page.
pub(super) const ERROR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// Entries of the local vector table, in the order of their registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Lvt {
    const ALL: [Self; 6] =
        [Self::Timer, Self::Thermal, Self::Performance, Self::Lint0, Self::Lint1, Self::Error];

    /// The entry that `register` is.
    pub(super) fn of(register: u8) -> Option<Self> {
        Self::ALL.get(usize::from(register.checked_sub(LVT)?)).copied()
    }

    /// The bits that mean something: vector and mask; the timer's mode; delivery mode; polarity, remote IRR, trigger
    /// mode of the two pins. Bit 12, the delivery status, is never set here and may be written.
    pub(super) fn defined_bits(self) -> u32 {
        let specific = match self {
            Self::Timer => 0b11 << 17,
            Self::Thermal | Self::Performance => 0x700,
            Self::Lint0 | Self::Lint1 => 0xe700,
            Self::Error => 0,
        };
        specific | LVT_MASKED | 1 << 12 | 0xff
    }

    /// Of those, the ones that software can set.
    fn writable_bits(self) -> u32 {
        self.defined_bits() & !(1 << 12 | 1 << 14)
    }
}

/// The registers of a local APIC but for its timer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    /// IA32_APIC_BASE.
    pub(super) base: u64,
    pub(super) id: u32,
    pub(super) task_priority: u8,
    /// In xAPIC mode; x2APIC mode derives it from the id.
    pub(super) logical_destination: u32,
    pub(super) destination_format: u32,
    pub(super) spurious: u32,
    /// ISR.
    pub(super) in_service: VectorSet,
    /// TMR.
    pub(super) level_triggered: VectorSet,
    /// IRR.
    pub(super) requested: VectorSet,
    /// ESR as the guest reads it.
    pub(super) error_status: u32,
    /// Errors since the guest last wrote ESR.
    pub(super) new_errors: u32,
    /// ICR; the destination is in the upper half.
    pub(super) command: u64,
    lvt: [u32; 6],
    /// An NMI waits for the CPU.
    pub(super) nmi: bool,
}

impl Registers {
    /// As after power-up: on, in xAPIC mode, disabled by software, everything local masked.
    pub(super) fn after_reset() -> Self {
        Self {
            base: u64::from(crate::memory::layout::LAPIC) | BASE_ENABLED | BASE_BOOT_CPU,
            id: 0,
            task_priority: 0,
            logical_destination: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            in_service: VectorSet::default(),
            level_triggered: VectorSet::default(),
            requested: VectorSet::default(),
            error_status: 0,
            new_errors: 0,
            command: 0,
            lvt: [LVT_MASKED; 6],
            nmi: false,
        }
    }

    /// Wires the pins as firmware does: the PIC to LINT0, NMI to LINT1. They are open although software has not
    /// enabled the local APIC, as KVM has it.
    pub(super) fn wire_virtually(&mut self) {
        self.lvt[Lvt::Lint0 as usize] = 0x700;
        self.lvt[Lvt::Lint1 as usize] = 0x400;
    }

    /// On by IA32_APIC_BASE.
    pub(super) fn enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    /// In x2APIC mode.
    pub(super) fn x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// On by the spurious-interrupt register too: takes vectors.
    pub(super) fn software_enabled(&self) -> bool {
        self.enabled() && self.spurious & SPURIOUS_ENABLED != 0
    }

    /// The set of which this CPU is a member in logical addressing: 8 bits, or cluster and 16 bits in x2APIC mode.
    pub(super) fn logical_id(&self) -> u32 {
        if self.x2apic() {
            (self.id >> 4) << 16 | 1 << (self.id & 0xf)
        } else {
            self.logical_destination >> 24
        }
    }

    /// An entry of the local vector table.
    pub(super) fn lvt(&self, entry: Lvt) -> u32 {
        self.lvt[entry as usize]
    }

    /// Writes an entry; it stays masked while software has the local APIC disabled.
    pub(super) fn set_lvt(&mut self, entry: Lvt, value: u32) {
        let forced = if self.software_enabled() { 0 } else { LVT_MASKED };
        self.lvt[entry as usize] = value & entry.writable_bits() | forced;
    }

    /// Masks every entry.
    pub(super) fn mask_lvt(&mut self) {
        for entry in &mut self.lvt {
            *entry |= LVT_MASKED;
        }
    }
}
