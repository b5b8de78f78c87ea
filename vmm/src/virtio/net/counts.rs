//! What a network card has counted.

use crate::virtio::device::Counter;

/// Figures since the card was made; frames are counted without the header that virtio adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What went to the guest.
    pub rx: Traffic,
    /// What came from the guest.
    pub tx: Traffic,
    /// Times that frames had to wait because the guest had given no buffers.
    pub no_rx_avail_buffer: u64,
    /// Times that the tap could not be read.
    pub tap_read_fails: u64,
    /// Frames that the tap did not take.
    pub tap_write_fails: u64,
    /// Chains of the guest's that hold no frame.
    pub tx_malformed_frames: u64,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes passed on.
    pub bytes: u64,
    /// Frames passed on; whole segments count as one.
    pub packets: u64,
    /// Frames dropped.
    pub fails: u64,
    /// Times that the rate limit made frames wait.
    pub throttled: u64,
}

impl Traffic {
    /// A frame of `bytes` was passed on.
    pub fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.packets += 1;
    }
}

impl Counts {
    /// The figures by the names that Firecracker's metrics have for them.
    pub fn counters(&self) -> Vec<Counter> {
        [
            ("rx_bytes_count", self.rx.bytes),
            ("rx_packets_count", self.rx.packets),
            ("rx_fails", self.rx.fails),
            ("rx_rate_limiter_throttled", self.rx.throttled),
            ("no_rx_avail_buffer", self.no_rx_avail_buffer),
            ("tap_read_fails", self.tap_read_fails),
            ("tx_bytes_count", self.tx.bytes),
            ("tx_packets_count", self.tx.packets),
            ("tx_fails", self.tx.fails),
            ("tx_malformed_frames", self.tx_malformed_frames),
            ("tx_rate_limiter_throttled", self.tx.throttled),
            ("tap_write_fails", self.tap_write_fails),
        ]
        .into_iter()
        .map(|(name, value)| Counter { name, value })
        .collect()
    }
}
