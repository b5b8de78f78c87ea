//! IPv4 arithmetic of the one network: which subnet, and which address in it.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Length of the network's prefix, in bits.
pub(crate) const PREFIX: u8 = 24;
/// Candidates are 10.213.0.0/24 to 10.213.255.0/24.
const CANDIDATES: [u8; 2] = [10, 213];

/// A /24 network; its first address is the bridge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet(Ipv4Addr);

impl Subnet {
    /// The first candidate that overlaps none of these networks.
    pub(crate) fn choose(taken: &[(Ipv4Addr, u8)]) -> Option<Self> {
        (0..=255)
            .map(|third| Self(Ipv4Addr::new(CANDIDATES[0], CANDIDATES[1], third, 0)))
            .find(|s| !taken.iter().any(|&(address, prefix)| s.overlaps(address, prefix)))
    }

    fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let mask = mask(prefix.min(PREFIX));
        self.0.to_bits() & mask == address.to_bits() & mask
    }

    /// The bridge's own address, which is everyone's gateway.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.to_bits() | 1)
    }

    /// The lowest address that is free; `None` when all 253 are taken.
    pub(crate) fn free_address(self, taken: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        (2..255).map(|n| Ipv4Addr::from_bits(self.0.to_bits() | n)).find(|a| !taken.contains(a))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{PREFIX}", self.0)
    }
}

impl FromStr for Subnet {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let (address, prefix) = s.split_once('/').ok_or(())?;
        let address: Ipv4Addr = address.parse().map_err(|_| ())?;
        (prefix.parse() == Ok(PREFIX)).then_some(Self(address)).ok_or(())
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// The broadcast address of a network.
pub(crate) fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() | !mask(prefix))
}

/// A MAC address made from an IPv4 address: locally administered, so it meets nobody else's.
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xca, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_a_subnet_that_overlaps_nothing() {
        let ip = |s: &str| s.parse::<Ipv4Addr>().unwrap();
        assert_eq!(Subnet::choose(&[]).unwrap().to_string(), "10.213.0.0/24");
        assert_eq!(Subnet::choose(&[(ip("10.213.0.9"), 23)]).unwrap().to_string(), "10.213.2.0/24");
        assert_eq!(Subnet::choose(&[(ip("10.213.0.9"), 32)]).unwrap().to_string(), "10.213.1.0/24");
        assert_eq!(Subnet::choose(&[(ip("10.0.0.1"), 8)]), None);
        assert_eq!(Subnet::choose(&[(ip("192.168.1.1"), 0)]), None);
    }

    #[test]
    fn gives_out_the_lowest_free_address_and_ends_when_full() {
        let subnet: Subnet = "10.213.4.0/24".parse().unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 213, 4, 1));
        let mut taken = Vec::new();
        while let Some(address) = subnet.free_address(&taken) {
            taken.push(address);
        }
        assert_eq!(taken.len(), 253);
        taken.remove(10);
        assert_eq!(subnet.free_address(&taken), Some(Ipv4Addr::new(10, 213, 4, 12)));
    }

    #[test]
    fn knows_the_broadcast_address() {
        assert_eq!(broadcast(Ipv4Addr::new(10, 213, 4, 9), 24), Ipv4Addr::new(10, 213, 4, 255));
        assert_eq!(broadcast(Ipv4Addr::new(10, 213, 4, 9), 32), Ipv4Addr::new(10, 213, 4, 9));
    }
}
