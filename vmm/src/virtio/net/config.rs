//! The network card's config space (virtio 1.2, section 5.1.4) and what it is made of.

use crate::virtio::net::MacAddress;
use crate::virtio::rate_limit::RateLimiterConfig;

/// What a network card is made of, besides its tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The guest's hardware address, not a group address. Without one the guest's driver makes one up.
    pub mac: Option<MacAddress>,
    /// Largest packet without the Ethernet header, in bytes, from 68 on.
    pub mtu: u16,
    /// Limits of what goes to the guest.
    pub receive_limits: RateLimiterConfig,
    /// Limits of what comes from the guest.
    pub transmit_limits: RateLimiterConfig,
}

/// Smallest MTU that IPv4 allows (RFC 791), and Linux with it.
pub const MIN_MTU: u16 = 68;

impl NetConfig {
    /// The fields up to `mtu`; those without a feature bit of ours stay zero.
    pub fn config_space(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        if let Some(MacAddress(mac)) = self.mac {
            bytes[..6].copy_from_slice(&mac);
        }
        bytes[10..].copy_from_slice(&self.mtu.to_le_bytes());
        bytes
    }
}
