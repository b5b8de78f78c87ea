//! What a vCPU left the guest for, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::Exit;
use crate::virtio::Counter;

/// The counts of one vCPU, in a cache line of their own: only its thread writes them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct ExitCounts {
    port_reads: AtomicU64,
    port_writes: AtomicU64,
    mmio_reads: AtomicU64,
    mmio_writes: AtomicU64,
    kicks: AtomicU64,
}

impl ExitCounts {
    /// Counts an exit. Called on the vCPU's thread alone.
    pub(crate) fn count(&self, exit: &Exit<'_>) {
        let counter = match exit {
            Exit::PortRead { .. } => &self.port_reads,
            Exit::PortWrite { .. } => &self.port_writes,
            Exit::MmioRead { .. } => &self.mmio_reads,
            Exit::MmioWrite { .. } => &self.mmio_writes,
            Exit::Kicked => &self.kicks,
        };
        // There is one writer, so no locked addition is needed.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The figures by the names that Firecracker's metrics have for them.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        [
            ("exit_io_in", &self.port_reads),
            ("exit_io_out", &self.port_writes),
            ("exit_mmio_read", &self.mmio_reads),
            ("exit_mmio_write", &self.mmio_writes),
            ("kicks", &self.kicks),
        ]
        .map(|(name, counter)| Counter { name, value: counter.load(Ordering::Relaxed) })
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself() {
        let counts = ExitCounts::default();
        counts.count(&Exit::PortWrite { port: 1, data: &[] });
        counts.count(&Exit::PortWrite { port: 1, data: &[] });
        counts.count(&Exit::Kicked);
        let values: Vec<_> = counts.counters().iter().map(|counter| counter.value).collect();
        assert_eq!(values, [0, 2, 0, 0, 1]);
    }
}
