//! The interrupt controllers and timers of a machine whose CPU we run ourselves: local APIC, I/O APIC, PIC, PIT.
//!
//! ```text
//!   devices' threads ── InterruptLine::trigger ──┐
//!                                                ▼
//!   CPU's thread ── MSR, MMIO, port, CR8 ──► Controllers ──► notify: something has become deliverable
//!                ── advance, take ─────────►  (one lock)  ──► pending, deadline: kept up to date in atomics
//! ```
//!
//! [`Controllers`] has the lock; behind it [`chipset`] wires the models to each other. Each model is a state machine of
//! its own that knows no threads and is told the time: TSC values come with each call.

mod apic_timer;
mod chipset;
mod frequency;
mod io_apic;
mod local_apic;
mod message;
mod pic;
mod pit;
#[cfg(test)]
mod tests;
mod vector_set;

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cpu::Saved;
use crate::interrupt::InterruptLine;
use crate::kvm::KvmError;
use crate::memory::layout;
use chipset::Chipset;
use frequency::TscFrequency;

pub(crate) use local_apic::GeneralProtection;

/// In place of a deadline: none is set.
const NEVER: u64 = u64::MAX;

/// An interrupt that the CPU takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Through this entry of the IDT.
    Vector(u8),
    /// The non-maskable interrupt.
    Nmi,
}

/// Kinds of interrupts: those that the CPU accepts now, or those that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// Vectors: accepted with RFLAGS.IF set and no interrupt shadow.
    pub(crate) maskable: bool,
    /// The NMI: accepted unless one is being handled.
    pub(crate) nmi: bool,
}

impl Accepts {
    fn bits(self) -> u8 {
        u8::from(self.maskable) | u8::from(self.nmi) << 1
    }
}

/// The controllers as the CPU and the devices share them.
pub(crate) struct Controllers {
    chipset: Mutex<Chipset>,
    /// What `Chipset::pending` says.
    pending: AtomicU8,
    /// What `Chipset::next_tsc` says, or [`NEVER`].
    deadline: AtomicU64,
    notify: Arc<dyn Fn() + Send + Sync>,
}

impl Controllers {
    /// The controllers as firmware leaves them, on a machine whose TSC ticks `tsc_khz` thousand times a second.
    ///
    /// `notify` is called, on whatever thread it happens, when an interrupt becomes deliverable and none of its kind
    /// was before. So the CPU looks at [`Self::pending`] when notified and when it begins to accept a kind: RFLAGS.IF
    /// is set, a shadow or an NMI's handler ends.
    ///
    /// Without the PIC its ports read as a floating bus. A kernel that has the I/O APIC then does without it, and without
    /// the 16 interrupts that it would keep for it.
    pub(crate) fn new(notify: Arc<dyn Fn() + Send + Sync>, tsc_khz: u64, has_pic: bool) -> Arc<Self> {
        Arc::new(Self {
            chipset: Mutex::new(Chipset::new(TscFrequency::from_khz(tsc_khz), has_pic)),
            pending: AtomicU8::new(0),
            deadline: AtomicU64::new(NEVER),
            notify,
        })
    }

    /// An interrupt line for a device: each trigger is a rise of input `irq` of the I/O APIC and the PIC, if there is one.
    pub(crate) fn line(self: &Arc<Self>, irq: u32) -> Arc<dyn InterruptLine> {
        Arc::new(Line { controllers: self.clone(), irq })
    }

    /// Whether anything waits for the CPU: a vector of sufficient priority, the PIC, or an NMI. One atomic load.
    pub(crate) fn pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    /// Gives the CPU the most urgent interrupt of the kinds that it accepts. The CPU must take it: it is in service
    /// from now on. Cheap if there is none.
    pub(crate) fn take(&self, accepts: Accepts) -> Option<Interrupt> {
        if self.pending.load(Ordering::Acquire) & accepts.bits() == 0 {
            return None;
        }
        self.with(|chipset| chipset.take(accepts))
    }

    /// Lets the timers fire that are due at `tsc`. Cheap if none is.
    pub(crate) fn advance(&self, tsc: u64) {
        if tsc >= self.deadline.load(Ordering::Acquire) {
            self.with(|chipset| chipset.advance(tsc));
        }
    }

    /// The TSC of the next timer event, when [`Self::advance`] is to be called. One atomic load.
    pub(crate) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::Acquire)).filter(|deadline| *deadline != NEVER)
    }

    /// Whether MSR `index` is one of the local APIC's.
    pub(crate) fn owns_msr(index: u32) -> bool {
        local_apic::owns(index)
    }

    /// Reads an MSR that [`Self::owns_msr`].
    ///
    /// # Errors
    /// There is no such register in the local APIC's mode, or it cannot be read.
    pub(crate) fn read_msr(&self, index: u32, tsc: u64) -> Result<u64, GeneralProtection> {
        self.with_time(tsc, |chipset| chipset.read_msr(index, tsc))
    }

    /// Writes an MSR that [`Self::owns_msr`].
    ///
    /// # Errors
    /// There is no such register in the local APIC's mode, it cannot be written, or `value` has reserved bits set.
    pub(crate) fn write_msr(&self, index: u32, value: u64, tsc: u64) -> Result<(), GeneralProtection> {
        self.with_time(tsc, |chipset| chipset.write_msr(index, value, tsc))
    }

    /// Fills `data` with what the local APIC or the I/O APIC has at guest physical `address`; whether they are there.
    pub(crate) fn read_mmio(&self, address: u64, data: &mut [u8], tsc: u64) -> bool {
        self.with_time(tsc, |chipset| chipset.read_mmio(address, data, tsc))
    }

    /// Writes `data` to the local APIC or the I/O APIC at guest physical `address`; whether they are there.
    pub(crate) fn write_mmio(&self, address: u64, data: &[u8], tsc: u64) -> bool {
        self.with_time(tsc, |chipset| chipset.write_mmio(address, data, tsc))
    }

    /// Fills `data` with what the PIC, the PIT or the speaker port has at `port`; whether that port is theirs. They
    /// answer single bytes only.
    pub(crate) fn read_port(&self, port: u16, data: &mut [u8], tsc: u64) -> bool {
        if !owns_port(port) {
            return false;
        }
        let byte =
            if data.len() == 1 { self.with_time(tsc, |chipset| chipset.read_port(port, tsc)) } else { None };
        data.fill(byte.unwrap_or(0xff));
        true
    }

    /// Writes `data` to the PIC, the PIT or the speaker port at `port`; whether that port is theirs. They take single
    /// bytes only.
    pub(crate) fn write_port(&self, port: u16, data: &[u8], tsc: u64) -> bool {
        if let &[value] = data
            && owns_port(port)
        {
            self.with_time(tsc, |chipset| chipset.write_port(port, value, tsc));
        }
        owns_port(port)
    }

    /// The task priority as CR8 reads, 0 to 15.
    pub(crate) fn cr8(&self) -> u8 {
        self.lock().cr8()
    }

    /// Writes CR8. That bits above the low four are zero is the CPU's to check.
    pub(crate) fn set_cr8(&self, value: u8) {
        self.with(|chipset| chipset.set_cr8(value));
    }

    /// The controllers' state as JSON. Times in it are of the host's TSC.
    pub(crate) fn save(&self) -> Result<Saved, KvmError> {
        serde_json::value::to_raw_value(&*self.lock()).map_err(|error| damaged(&error.to_string()))
    }

    /// Puts saved state back.
    ///
    /// # Errors
    /// It is damaged, or of a host whose TSC ticks otherwise.
    pub(crate) fn restore(&self, saved: &Saved) -> Result<(), KvmError> {
        let state: Chipset =
            serde_json::from_str(saved.get()).map_err(|error| damaged(&error.to_string()))?;
        self.with(|chipset| chipset.replace_by(state)).map_err(damaged)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Chipset> {
        self.chipset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with the timers brought to `tsc`.
    fn with_time<R>(&self, tsc: u64, work: impl FnOnce(&mut Chipset) -> R) -> R {
        self.with(|chipset| {
            chipset.advance(tsc);
            work(chipset)
        })
    }

    /// Does `work`, brings the atomics up to date and notifies of what has become deliverable.
    fn with<R>(&self, work: impl FnOnce(&mut Chipset) -> R) -> R {
        let mut chipset = self.lock();
        let result = work(&mut chipset);
        chipset.settle();
        let pending = chipset.pending().bits();
        let before = self.pending.load(Ordering::Relaxed);
        self.pending.store(pending, Ordering::Release);
        self.deadline.store(chipset.next_tsc().unwrap_or(NEVER), Ordering::Release);
        drop(chipset);
        if pending & !before != 0 {
            (self.notify)();
        }
        result
    }
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controllers")
            .field("pending", &self.pending())
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

fn damaged(problem: &str) -> KvmError {
    KvmError::State { what: "the interrupt controllers", problem: problem.to_owned() }
}

/// Whether `port` is the PIC's, the PIT's or the speaker's.
fn owns_port(port: u16) -> bool {
    matches!(port, 0x20 | 0x21 | 0x40..=0x43 | 0x61 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1)
}

/// A device's end of an input.
struct Line {
    controllers: Arc<Controllers>,
    irq: u32,
}

impl InterruptLine for Line {
    fn trigger(&self) -> io::Result<()> {
        if self.irq >= layout::IOAPIC_INPUTS {
            let message = format!("there is no interrupt input {}: the last one is 23", self.irq);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.controllers.with(|chipset| chipset.pulse(self.irq));
        Ok(())
    }
}
