//! The interrupt command register: interrupts that software sends. Intel SDM volume 3A, section 11.6.1.

use super::super::message::DeliveryMode;
use super::LocalApic;
use super::registers::{ERROR_SENT_ILLEGAL, FIRST_LEGAL_VECTOR};

/// Whom an interrupt command is for when it does not say so by address: bits 19:18.
const SHORTHAND_NONE: u32 = 0;
const SHORTHAND_OTHERS: u32 = 3;

impl LocalApic {
    /// Carries out `command` (the low half of the register) for `destination`. What is for other CPUs, of which there
    /// are none, is lost, and so are resets and starts.
    pub(super) fn send(&mut self, command: u32, destination: u32) {
        let vector = command.to_le_bytes()[0];
        let mode = DeliveryMode::of(command);
        let vectored = matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if vectored && vector < FIRST_LEGAL_VECTOR {
            self.report_error(ERROR_SENT_ILLEGAL);
            return;
        }
        let for_self = match command >> 18 & 3 {
            SHORTHAND_NONE => self.is_addressed(command & 1 << 11 != 0, destination),
            shorthand => shorthand != SHORTHAND_OTHERS,
        };
        if for_self {
            self.deliver(mode, vector, false);
        }
    }
}
