//! The few rtnetlink requests the agent makes, as bytes (rtnetlink(7)).
//!
//! All of them go to the kernel in one datagram: that is one system call instead of one ioctl for each flag, address
//! and route, and it lets the kernel itself announce the address when the interface comes up.

use agent::protocol::Network;

/// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE` (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const NEW_ADDR: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_REPLACE | NLM_F_CREATE` (linux/netlink.h).
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x500;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

const AF_INET: u8 = 2;
/// `IFF_UP`.
const UP: u32 = 1;
/// The loopback interface is always the first.
pub(crate) const LOOPBACK: u32 = 1;

/// A datagram in the making; requests are numbered from 1.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    last: usize,
    count: u32,
}

impl Batch {
    /// Switches an interface on.
    pub(crate) fn link_up(&mut self, index: u32) {
        self.begin(NEW_LINK, REQUEST);
        self.link(index, UP);
        self.end();
    }

    /// Sets an interface's MTU, and has the kernel send a gratuitous ARP when the interface comes up with an address,
    /// so that neighbours who knew the address elsewhere learn at once (`arp_notify`, ip-sysctl.rst).
    pub(crate) fn configure_link(&mut self, index: u32, mtu: u16) {
        self.begin(NEW_LINK, REQUEST);
        self.link(index, 0);
        self.attribute(4 /* IFLA_MTU */, &u32::from(mtu).to_ne_bytes());
        // IFLA_AF_SPEC { AF_INET { IFLA_INET_CONF { IPV4_DEVCONF_ARP_NOTIFY = 1 } } }
        let notify = nested(22, &1u32.to_ne_bytes());
        let inet = nested(u16::from(AF_INET), &nested(1, &notify));
        self.attribute(26, &inet);
        self.end();
    }

    /// Gives an interface its address.
    pub(crate) fn address(&mut self, index: u32, network: &Network) {
        self.begin(NEW_ADDR, REQUEST | CREATE);
        self.bytes.extend_from_slice(&[AF_INET, network.prefix, 0, 0]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.attribute(2 /* IFA_LOCAL */, &network.address.octets());
        self.attribute(1 /* IFA_ADDRESS */, &network.address.octets());
        if let Some(broadcast) = broadcast(network) {
            self.attribute(4 /* IFA_BROADCAST */, &broadcast);
        }
        self.end();
    }

    /// Sends everything that has no better route to the gateway.
    pub(crate) fn default_route(&mut self, index: u32, network: &Network) {
        self.begin(NEW_ROUTE, REQUEST | CREATE);
        // family, destination and source prefixes, tos, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST
        self.bytes.extend_from_slice(&[AF_INET, 0, 0, 0, 254, 3, 0, 1]);
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.attribute(5 /* RTA_GATEWAY */, &network.gateway.octets());
        self.attribute(4 /* RTA_OIF */, &index.to_ne_bytes());
        self.end();
    }

    /// The datagram; the kernel answers the last request in any case, and every other one only if it fails.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            flags[0] |= ACK.to_ne_bytes()[0];
            flags[1] |= ACK.to_ne_bytes()[1];
        }
        self.bytes
    }

    fn begin(&mut self, kind: u16, flags: u16) {
        self.last = self.bytes.len();
        self.count += 1;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
    }

    fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.last).expect("requests are small");
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// `struct ifinfomsg`, with the flags to set.
    fn link(&mut self, index: u32, flags: u32) {
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&nested(kind, value));
    }
}

/// One attribute, padded to four bytes (`struct rtattr`).
fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes are small");
    let mut bytes = Vec::with_capacity(usize::from(length).next_multiple_of(4));
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The network's last address; networks of one or two addresses have none (RFC 3021).
fn broadcast(network: &Network) -> Option<[u8; 4]> {
    let host_bits = 32u32.checked_sub(u32::from(network.prefix)).filter(|&bits| bits > 1)?;
    let ones = u32::MAX.checked_shr(32 - host_bits).unwrap_or(u32::MAX);
    Some((network.address.to_bits() | ones).to_be_bytes())
}

/// The kernel's answer: the request's number and its error number, 0 for success. `None` when it is no answer.
pub(crate) fn answer(bytes: &[u8]) -> Option<(u32, i32)> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    let kind = bytes.get(4..6).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(u16::from_ne_bytes)?;
    let request = u32::from_ne_bytes(word(8)?);
    let error = i32::from_ne_bytes(word(HEADER)?);
    (kind == ERROR).then(|| (request, error.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(prefix: u8) -> Network {
        Network { address: [10, 1, 2, 3].into(), prefix, gateway: [10, 1, 2, 1].into(), mtu: 1400 }
    }

    #[test]
    fn broadcast_addresses_end_the_network() {
        let cases = [
            (24, Some([10, 1, 2, 255])),
            (30, Some([10, 1, 2, 3])),
            (8, Some([10, 255, 255, 255])),
            (0, Some([255, 255, 255, 255])),
            (31, None),
            (32, None),
            (200, None),
        ];
        for (prefix, expected) in cases {
            assert_eq!(broadcast(&network(prefix)), expected, "/{prefix}");
        }
    }

    #[test]
    fn requests_follow_each_other_and_the_last_asks_for_an_answer() {
        let mut batch = Batch::default();
        batch.link_up(LOOPBACK);
        batch.configure_link(2, 1400);
        batch.address(2, &network(24));
        batch.default_route(2, &network(24));
        let bytes = batch.finish();
        let mut seen = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().expect("4 bytes")) as usize;
            let kind = u16::from_ne_bytes(rest[4..6].try_into().expect("2 bytes"));
            let flags = u16::from_ne_bytes(rest[6..8].try_into().expect("2 bytes"));
            let number = u32::from_ne_bytes(rest[8..12].try_into().expect("4 bytes"));
            seen.push((number, kind, flags & ACK != 0, length % 4));
            rest = &rest[length..];
        }
        assert_eq!(
            seen,
            [
                (1, NEW_LINK, false, 0),
                (2, NEW_LINK, false, 0),
                (3, NEW_ADDR, false, 0),
                (4, NEW_ROUTE, true, 0)
            ]
        );
    }

    #[test]
    fn answers_tell_request_and_error_and_anything_else_is_none() {
        let mut bytes = vec![0u8; 36];
        bytes[4] = 2;
        bytes[8] = 3;
        bytes[16..20].copy_from_slice(&(-19i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some((3, 19)));
        bytes[4] = 3;
        assert_eq!(answer(&bytes), None);
        for length in 0..20 {
            assert_eq!(answer(&bytes[..length]), None);
        }
    }
}
