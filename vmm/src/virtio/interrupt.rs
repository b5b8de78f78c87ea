//! How a device tells the driver something: the interrupt status register and the interrupt line behind it.
//!
//! The register's bits are shared between the vCPU thread (which reads and acknowledges them) and the event
//! loop thread (which sets them), so they are atomics and no lock is taken on an interrupt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use crate::interrupt::InterruptLine;

/// The registers that change without the driver's doing (virtio 1.2, section 4.2.2).
#[derive(Debug, Default)]
pub struct SharedRegisters {
    interrupt_status: AtomicU32,
    config_generation: AtomicU32,
    needs_reset: AtomicBool,
    complaints: AtomicU32,
}

/// What [`SharedRegisters`] hold, in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRegisters {
    interrupt_status: u32,
    config_generation: u32,
    needs_reset: bool,
}

/// What is said of a driver's mistakes in the log before it is known: a guest must not fill it.
const MOST_COMPLAINTS: u32 = 8;

impl SharedRegisters {
    /// Whether one more mistake of the driver's is worth a line in the log.
    pub fn may_complain(&self) -> bool {
        self.complaints.fetch_add(1, Ordering::Relaxed) < MOST_COMPLAINTS
    }

    /// The InterruptStatus register.
    pub fn interrupt_status(&self) -> u32 {
        self.interrupt_status.load(Ordering::SeqCst)
    }

    /// The driver has handled the causes in `bits`.
    pub fn acknowledge(&self, bits: u32) {
        self.interrupt_status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// The ConfigGeneration register.
    pub fn config_generation(&self) -> u32 {
        self.config_generation.load(Ordering::SeqCst)
    }

    /// Whether the device has asked for a reset.
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::SeqCst)
    }

    /// The registers as a snapshot keeps them.
    pub fn save(&self) -> SavedRegisters {
        SavedRegisters {
            interrupt_status: self.interrupt_status(),
            config_generation: self.config_generation(),
            needs_reset: self.needs_reset(),
        }
    }

    /// Puts saved registers back.
    pub fn restore(&self, saved: SavedRegisters) {
        self.interrupt_status.store(saved.interrupt_status, Ordering::SeqCst);
        self.config_generation.store(saved.config_generation, Ordering::SeqCst);
        self.needs_reset.store(saved.needs_reset, Ordering::SeqCst);
    }

    /// Back to the initial state. The generation goes on counting: the driver compares it with an older
    /// reading.
    pub fn reset(&self) {
        self.interrupt_status.store(0, Ordering::SeqCst);
        self.needs_reset.store(false, Ordering::SeqCst);
    }
}

/// A device's handle on its interrupt.
pub struct Interrupt {
    registers: Arc<SharedRegisters>,
    line: Arc<dyn InterruptLine>,
}

impl Interrupt {
    /// An interrupt that sets bits in `registers` and then raises `line`.
    pub fn new(registers: Arc<SharedRegisters>, line: Arc<dyn InterruptLine>) -> Self {
        Self { registers, line }
    }

    /// Whether one more mistake of the driver's is worth a line in the log.
    pub fn may_complain(&self) -> bool {
        self.registers.may_complain()
    }

    /// There are used buffers in some queue.
    pub fn used_buffers(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// The config space has changed.
    pub fn config_changed(&self) {
        self.registers.config_generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// The device cannot go on until it is reset (virtio 1.2, section 2.1.2).
    pub fn device_needs_reset(&self) {
        self.registers.needs_reset.store(true, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn raise(&self, bit: u32) {
        self.registers.interrupt_status.fetch_or(bit, Ordering::SeqCst);
        if let Err(error) = self.line.trigger() {
            tracing::error!(%error, "cannot raise a virtio interrupt");
        }
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt").field("registers", &self.registers).finish_non_exhaustive()
    }
}
