//! What travels from an I/O APIC or an interrupt command to a local APIC. Intel SDM volume 3A, section 11.11.1.

/// A destination that means every local APIC, in either way of addressing.
pub(super) const EVERYONE: u32 = u32::MAX;

/// What a message or an entry of a local vector table does to the CPU that it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryMode {
    /// Raises a vector.
    Fixed,
    /// Raises a vector on the addressed CPU that does the least important thing; with one CPU, the same.
    LowestPriority,
    /// System management interrupt: there is no such mode here.
    Smi,
    /// Raises the non-maskable interrupt.
    Nmi,
    /// Resets the CPU.
    Init,
    /// Starts a CPU that was reset.
    StartUp,
    /// Asks the PIC for the vector.
    ExtInt,
    /// No delivery mode.
    Reserved,
}

impl DeliveryMode {
    /// The mode in bits 10:8 of `register`.
    pub(super) fn of(register: u32) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// An interrupt on its way to a local APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) mode: DeliveryMode,
    pub(super) vector: u8,
    /// Level-triggered: the local APIC broadcasts its end.
    pub(super) level: bool,
    /// The destination is a set of CPUs rather than the id of one.
    pub(super) logical: bool,
    /// Whom it is for, or [`EVERYONE`].
    pub(super) destination: u32,
}

/// An 8-bit destination field widened: all ones mean everyone.
pub(super) fn widen_destination(field: u8) -> u32 {
    if field == u8::MAX { EVERYONE } else { field.into() }
}
