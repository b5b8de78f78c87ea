//! What a vsock device has counted.

use crate::virtio::device::Counter;

/// Figures since the device was made. As in the specification, what the guest receives is rx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of data for the guest.
    pub rx_bytes: u64,
    /// Packets for the guest.
    pub rx_packets: u64,
    /// Bytes of data from the guest.
    pub tx_bytes: u64,
    /// Packets from the guest.
    pub tx_packets: u64,
    /// Packets from the guest that make no sense.
    pub tx_malformed: u64,
    /// Connections made, by either side.
    pub added: u64,
    /// Connections that the guest was told by a reset are over.
    pub killed: u64,
    /// Connections that are over.
    pub removed: u64,
    /// Connections that were refused because there are so many.
    pub refused: u64,
}

impl Counts {
    /// The figures by the names that Firecracker's metrics have for them, where it has one.
    pub fn counters(&self) -> Vec<Counter> {
        [
            ("rx_bytes_count", self.rx_bytes),
            ("rx_packets_count", self.rx_packets),
            ("tx_bytes_count", self.tx_bytes),
            ("tx_packets_count", self.tx_packets),
            ("tx_malformed_packets", self.tx_malformed),
            ("conns_added", self.added),
            ("conns_killed", self.killed),
            ("conns_removed", self.removed),
            ("conns_refused", self.refused),
        ]
        .into_iter()
        .map(|(name, value)| Counter { name, value })
        .collect()
    }
}
