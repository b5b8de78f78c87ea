//! Offloads: the checksums and segments that one side leaves for the other to finish (virtio 1.2, section 5.1.3).
//!
//! What the driver may leave to us goes to the host's kernel as it is, so the device offers all that this kernel takes;
//! what the driver takes unfinished is told to the tap. UDP fragmentation (UFO) is not offered: Linux sends no such
//! frames any more.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
};

/// The driver takes UDP segments in IPv4 (virtio 1.3, section 5.1.3).
const VIRTIO_NET_F_GUEST_USO4: u32 = 54;
/// The driver takes UDP segments in IPv6.
const VIRTIO_NET_F_GUEST_USO6: u32 = 55;
/// The device takes UDP segments.
const VIRTIO_NET_F_HOST_USO: u32 = 56;

/// Checksums and TCP segments: every Linux with a tap has them.
pub const BASIC: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN;
/// UDP segments: Linux 6.2 and later.
pub const UDP: u64 = 1 << VIRTIO_NET_F_HOST_USO | 1 << VIRTIO_NET_F_GUEST_USO4 | 1 << VIRTIO_NET_F_GUEST_USO6;

/// The tap's words for UDP segments, which it takes together or not at all.
pub const TAP_UDP: u32 = libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Whether a driver with these features takes segments of up to 64 KiB.
pub fn takes_segments(features: u64) -> bool {
    let any = 1 << VIRTIO_NET_F_GUEST_TSO4
        | 1 << VIRTIO_NET_F_GUEST_TSO6
        | 1 << VIRTIO_NET_F_GUEST_USO4
        | 1 << VIRTIO_NET_F_GUEST_USO6;
    features & any != 0
}

/// The tap's words for what a driver with these features takes. Each combination that the specification allows is one
/// that the tap takes; segments are of no use without checksums.
pub fn tap_words(features: u64) -> u32 {
    let has = |bit: u32| features & (1 << bit) != 0;
    if !has(VIRTIO_NET_F_GUEST_CSUM) {
        return 0;
    }
    let mut words = libc::TUN_F_CSUM;
    if has(VIRTIO_NET_F_GUEST_TSO4) {
        words |= libc::TUN_F_TSO4;
    }
    if has(VIRTIO_NET_F_GUEST_TSO6) {
        words |= libc::TUN_F_TSO6;
    }
    if has(VIRTIO_NET_F_GUEST_ECN) && words != libc::TUN_F_CSUM {
        words |= libc::TUN_F_TSO_ECN;
    }
    if has(VIRTIO_NET_F_GUEST_USO4) && has(VIRTIO_NET_F_GUEST_USO6) {
        words |= TAP_UDP;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_hears_what_the_driver_takes() {
        let [csum, tso4, tso6, ecn, uso4, uso6] = [
            VIRTIO_NET_F_GUEST_CSUM,
            VIRTIO_NET_F_GUEST_TSO4,
            VIRTIO_NET_F_GUEST_TSO6,
            VIRTIO_NET_F_GUEST_ECN,
            VIRTIO_NET_F_GUEST_USO4,
            VIRTIO_NET_F_GUEST_USO6,
        ]
        .map(|bit| 1u64 << bit);
        let cases = [
            (0, 0),
            (csum, 1),
            (csum | tso4, 3),
            (csum | tso4 | tso6, 7),
            (csum | tso6 | ecn, 13),
            (csum | ecn, 1),
            (csum | uso4 | uso6, 0x61),
            (csum | uso4, 1),
            (tso4 | tso6 | ecn | uso4 | uso6, 0),
        ];
        for (features, wanted) in cases {
            assert_eq!(tap_words(features), wanted, "{features:#x}");
        }
    }

    #[test]
    fn any_kind_of_segment_may_be_large() {
        for bit in [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4] {
            assert!(takes_segments(1 << bit), "{bit}");
        }
        assert!(!takes_segments(1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_HOST_USO));
    }
}
