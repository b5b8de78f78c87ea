//! What a network card is made of, and its config space (virtio 1.2, section 5.1.4).

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::virtio::net::MacAddress;
use crate::virtio::rate_limit::RateLimiterConfig;

/// Smallest MTU that IPv4 allows (RFC 791), and Linux with it.
pub const MIN_MTU: u16 = 68;

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetConfig {
    /// A name for it, by which the control API and `carve vm restore` call it.
    #[serde(default)]
    pub id: String,
    /// The host's side.
    pub tap: TapSource,
    /// The guest's hardware address, not a group address. Without one the guest's driver makes one up.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// Largest packet without the Ethernet header, in bytes, from 68 on.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u16,
    /// How many bytes and frames go to the guest in a time.
    #[serde(default)]
    pub rx_rate_limiter: RateLimiterConfig,
    /// How many bytes and frames come from the guest in a time.
    #[serde(default)]
    pub tx_rate_limiter: RateLimiterConfig,
}

/// The tap interface of a network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapSource {
    /// The interface of this name, made if it is not there.
    Name(String),
    /// An open descriptor of the process, opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR. The machine works with a
    /// duplicate.
    Fd(RawFd),
}

impl NetConfig {
    /// A device on `tap` with Ethernet's usual MTU.
    pub fn new(tap: TapSource) -> Self {
        Self {
            id: String::new(),
            tap,
            mac: None,
            mtu: ethernet_mtu(),
            rx_rate_limiter: RateLimiterConfig::default(),
            tx_rate_limiter: RateLimiterConfig::default(),
        }
    }
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

fn ethernet_mtu() -> u16 {
    1500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_device_is_plain_text_whether_its_tap_has_a_name_or_a_number() {
        let named: NetConfig = serde_json::from_str(r#"{"tap": {"name": "tap0"}}"#).unwrap();
        assert_eq!(named, NetConfig::new(TapSource::Name("tap0".to_owned())));
        let mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
        let inherited = NetConfig { mac, mtu: 9000, ..NetConfig::new(TapSource::Fd(7)) };
        let text = serde_json::to_string(&inherited).unwrap();
        assert!(
            text.starts_with(r#"{"id":"","tap":{"fd":7},"mac":"02:00:00:00:00:01","mtu":9000,"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<NetConfig>(&text).unwrap(), inherited);
    }
}
