//! `/network-interfaces/{iface_id}`: network cards.

use serde::{Deserialize, Serialize};

use crate::config::{NetConfig, RateLimiterConfig, TapSource};
use crate::virtio::MacAddress;

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterface {
    /// Its name, the one in the path.
    pub iface_id: String,
    /// The tap interface.
    pub host_dev_name: String,
    /// The guest's hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_mac: Option<MacAddress>,
    /// Largest packet in bytes, 1500 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Limits of what goes to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_rate_limiter: Option<RateLimiterConfig>,
    /// Limits of what comes from the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_rate_limiter: Option<RateLimiterConfig>,
}

/// A change of a network card that the guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterfaceUpdate {
    /// Its name, the one in the path.
    pub iface_id: String,
    /// Other limits of what goes to the guest; those that are not named stay.
    #[serde(default)]
    pub rx_rate_limiter: Option<RateLimiterConfig>,
    /// Other limits of what comes from the guest.
    #[serde(default)]
    pub tx_rate_limiter: Option<RateLimiterConfig>,
}

impl NetworkInterface {
    /// The card for the machine.
    pub(crate) fn to_config(&self) -> NetConfig {
        let mut config = NetConfig::new(TapSource::Name(self.host_dev_name.clone()));
        config.id.clone_from(&self.iface_id);
        config.mac = self.guest_mac;
        config.mtu = self.mtu.unwrap_or(config.mtu);
        config.rx_rate_limiter = self.rx_rate_limiter.unwrap_or_default();
        config.tx_rate_limiter = self.tx_rate_limiter.unwrap_or_default();
        config
    }

    /// The card `index` of a machine as the API shows it.
    pub(crate) fn of(config: &NetConfig, index: usize) -> Self {
        let limits = |limits: RateLimiterConfig| (limits != RateLimiterConfig::default()).then_some(limits);
        Self {
            iface_id: if config.id.is_empty() { format!("net{index}") } else { config.id.clone() },
            host_dev_name: match &config.tap {
                TapSource::Name(name) => name.clone(),
                TapSource::Fd(number) => format!("/dev/fd/{number}"),
            },
            guest_mac: config.mac,
            mtu: Some(config.mtu),
            rx_rate_limiter: limits(config.rx_rate_limiter),
            tx_rate_limiter: limits(config.tx_rate_limiter),
        }
    }
}
