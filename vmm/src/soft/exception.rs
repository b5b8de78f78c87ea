//! Delivery of exceptions and interrupts, with what happens when that itself raises an exception.
//!
//! ```text
//!   event ── enter_handler ──► handler
//!                │ exception
//!                ▼
//!   both are contributory, or the first is a page fault?  no ──► deliver the second instead
//!                │ yes
//!                ▼
//!   double fault ── enter_handler ──► handler
//!                │ exception
//!                ▼
//!          triple fault: the machine shuts down
//! ```

use super::cpu::Cpu;
use super::delivery::Delivery;
use super::step::{Exception, Stop};

const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;
const NMI: u8 = 2;

/// Something to deliver between two instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The exception that the instruction at RIP raised, or the one before as a trap.
    Exception(Exception),
    /// An interrupt of this vector.
    Interrupt(u8),
    /// The non-maskable interrupt. Others wait until its handler's IRET.
    Nmi,
}

/// Why an event has not been delivered. Nothing has changed but CR2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// The stack is on a page of decoded code, in `Cpu::code_written`: forget that and deliver the event again.
    Code,
    /// An exception while a double fault was being delivered.
    TripleFault,
    /// The stack, or a table that delivery reads, is where no RAM is.
    OutsideRam,
}

/// Exceptions that make a double fault together (Intel SDM volume 3A, table 6-5): divide error, and those about segments.
fn is_contributory(vector: u8) -> bool {
    matches!(vector, 0 | 10..=13)
}

/// Whether the instruction that raises this exception is to be run again after it. A debug exception counts as a trap:
/// the only ones raised here are.
fn is_fault(vector: u8) -> bool {
    matches!(vector, 0 | 5..=7 | 10..=14 | 16 | 17 | 19..=21)
}

/// What comes of exception `second` while `first` was being delivered; `None` for a triple fault.
fn combine(first: Option<u8>, second: Exception) -> Option<Exception> {
    let bad = is_contributory(second.vector) || second.vector == PAGE_FAULT;
    match first {
        Some(DOUBLE_FAULT) if bad => None,
        Some(PAGE_FAULT) if bad => Some(Exception::DOUBLE_FAULT),
        Some(first) if is_contributory(first) && is_contributory(second.vector) => {
            Some(Exception::DOUBLE_FAULT)
        }
        _ => Some(second),
    }
}

/// Delivers `event` to the guest's kernel.
///
/// # Errors
/// See [`Undelivered`].
pub(crate) fn deliver(cpu: &mut Cpu, event: Event) -> Result<(), Undelivered> {
    let mut exception = match event {
        Event::Exception(exception) => Some(exception),
        Event::Interrupt(_) | Event::Nmi => None,
    };
    cpu.exception = None;
    loop {
        if let Some(address) = exception.and_then(|exception| exception.address) {
            cpu.sregs.cr2 = address;
        }
        let vector = match (exception, event) {
            (Some(exception), _) => exception.vector,
            (None, Event::Interrupt(vector)) => vector,
            (None, _) => NMI,
        };
        let delivery = Delivery {
            vector,
            error_code: exception.and_then(|exception| exception.error_code),
            by_number: false,
            is_fault: exception.is_some() && is_fault(vector),
            back: cpu.rip,
        };
        match cpu.enter_handler(&delivery) {
            Ok(()) => {
                cpu.system.nmi_blocked |= exception.is_none() && event == Event::Nmi;
                return Ok(());
            }
            Err(Stop::Code) => return Err(Undelivered::Code),
            Err(_) => {}
        }
        let second = cpu.exception.take().ok_or(Undelivered::OutsideRam)?;
        let first = exception.map(|exception| exception.vector);
        exception = Some(combine(first, second).ok_or(Undelivered::TripleFault)?);
    }
}

#[cfg(test)]
mod tests;
