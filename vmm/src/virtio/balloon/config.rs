//! What a balloon is made of, its features, and its config space (virtio 1.2, section 5.5.4).

use serde::{Deserialize, Serialize};

/// The guest tells of its memory when asked (VIRTIO_BALLOON_F_STATS_VQ).
pub const F_STATS_VQ: u32 = 1;
/// The guest takes pages back when it runs out of memory (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
pub const F_DEFLATE_ON_OOM: u32 = 2;
/// The guest tells of free pages (VIRTIO_BALLOON_F_REPORTING).
///
/// It comes without VIRTIO_BALLOON_F_PAGE_POISON: a guest that counts on the contents of its free pages then reports none
/// (section 5.5.6.7), so that those it does report may come back with any contents.
pub const F_REPORTING: u32 = 5;

/// Pages of the balloon are this large whatever the guest's pages are, as a shift.
pub const PAGE_SHIFT: u32 = 12;
/// Pages of the balloon in a MiB, as a shift.
const MIB_SHIFT: u32 = 20 - PAGE_SHIFT;

/// A balloon, in the words of Firecracker's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonConfig {
    /// Size that it is to have, in MiB.
    #[serde(default)]
    pub amount_mib: u32,
    /// The guest takes pages back rather than kill a process for want of memory.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// Seconds between two questions about the guest's memory; 0 for a balloon that never asks.
    #[serde(default)]
    pub stats_polling_interval_s: u16,
    /// The guest gives back what it has free, whatever the size of the balloon.
    #[serde(default)]
    pub free_page_reporting: bool,
}

impl BalloonConfig {
    /// The feature bits.
    pub fn features(&self) -> u64 {
        [
            (self.stats_polling_interval_s > 0, F_STATS_VQ),
            (self.deflate_on_oom, F_DEFLATE_ON_OOM),
            (self.free_page_reporting, F_REPORTING),
        ]
        .into_iter()
        .fold(0, |bits, (wanted, bit)| bits | u64::from(wanted) << bit)
    }
}

/// Pages of the balloon in so many MiB.
pub fn pages_of_mib(mib: u32) -> u32 {
    mib.saturating_mul(1 << MIB_SHIFT)
}

/// Whole MiB in so many pages of the balloon.
pub fn mib_of_pages(pages: u32) -> u32 {
    pages >> MIB_SHIFT
}

/// The two fields that every balloon has, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigSpace {
    /// `num_pages`: how large the balloon is to be.
    pub target_pages: u32,
    /// `actual`: how large the driver says it is.
    pub actual_pages: u32,
}

impl ConfigSpace {
    /// Both fields as they lie there.
    pub fn bytes(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.target_pages.to_le_bytes());
        bytes[4..].copy_from_slice(&self.actual_pages.to_le_bytes());
        bytes
    }

    /// A write of the driver's: `actual`, all of it at once, is the only field that it may write.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, <[u8; 4]>::try_from(data)) {
            (4, Ok(bytes)) => self.actual_pages = u32::from_le_bytes(bytes),
            _ => tracing::debug!(offset, ?data, "ignored a write of the balloon's configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_the_configuration() {
        let none = BalloonConfig::default();
        let cases = [
            (none.clone(), 0),
            (BalloonConfig { stats_polling_interval_s: 1, ..none.clone() }, 0b10),
            (BalloonConfig { deflate_on_oom: true, ..none.clone() }, 0b100),
            (BalloonConfig { free_page_reporting: true, amount_mib: 9, ..none }, 0b10_0000),
        ];
        for (config, wanted) in cases {
            assert_eq!(config.features(), wanted, "{config:?}");
        }
    }

    #[test]
    fn the_driver_writes_its_size_and_nothing_else() {
        let mut space = ConfigSpace { target_pages: 5, actual_pages: 0 };
        for (offset, data) in [(0, &[1; 4][..]), (4, &[1; 8]), (5, &[1]), (u64::MAX, &[1; 4]), (4, &[])] {
            space.write(offset, data);
            assert_eq!(space.bytes(), [5, 0, 0, 0, 0, 0, 0, 0], "{data:?} at {offset}");
        }
        space.write(4, &[1, 2, 0, 0]);
        assert_eq!(space, ConfigSpace { target_pages: 5, actual_pages: 0x201 });
    }

    #[test]
    fn sizes_that_no_guest_has_do_not_overflow() {
        assert_eq!(pages_of_mib(u32::MAX), u32::MAX);
        assert_eq!(mib_of_pages(pages_of_mib(1 << 20)), 1 << 20);
    }

    #[test]
    fn it_is_read_in_firecrackers_words() {
        let text = r#"{"amount_mib": 64, "deflate_on_oom": true, "stats_polling_interval_s": 1}"#;
        let config: BalloonConfig = serde_json::from_str(text).unwrap();
        let wanted = BalloonConfig {
            amount_mib: 64,
            deflate_on_oom: true,
            stats_polling_interval_s: 1,
            free_page_reporting: false,
        };
        assert_eq!(config, wanted);
    }
}
