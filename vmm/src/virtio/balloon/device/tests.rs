//! The balloon against a driver whose memory is a guest's, so that what is given back can be seen.

use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use proptest::prelude::*;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::*;
use crate::memory::{layout, map_guest_ram};
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, MEMORY_SIZE, hostile};

const VERSION_1: u64 = 1 << 32;
/// Where the tests have pages to give away: beyond everything that the driver uses.
const SPARE: u64 = MEMORY_SIZE;
const MEMORY_MIB: u32 = 32;

fn config() -> BalloonConfig {
    BalloonConfig {
        amount_mib: 4,
        deflate_on_oom: true,
        stats_polling_interval_s: 3600,
        free_page_reporting: true,
    }
}

struct Guest {
    driver: Driver,
    device: Arc<Mutex<Balloon>>,
}

/// A guest with 32 MiB that took `features`, its spare memory full of sevens.
fn guest(config: &BalloonConfig, features: u64) -> Guest {
    let memory = map_guest_ram(u64::from(MEMORY_MIB) * layout::MIB).unwrap();
    memory.write_slice(&vec![7; (16 * layout::MIB) as usize], GuestAddress(SPARE)).unwrap();
    let device = Arc::new(Mutex::new(Balloon::new(config, MEMORY_MIB).unwrap()));
    let mut driver = Driver::sharing(device.clone(), memory);
    driver.start(VERSION_1 | features);
    Guest { driver, device }
}

/// All features, and queues in this order: inflate, deflate, statistics, reports.
fn full() -> Guest {
    let guest = guest(&config(), config().features());
    assert_eq!(guest.device.lock().unwrap().positions().len(), 4);
    guest
}

impl Guest {
    /// Bytes of guest memory that take memory of the host.
    fn resident(&self) -> u64 {
        let region = self.driver.memory.iter().next().unwrap();
        region.file_offset().unwrap().file().metadata().unwrap().blocks() * 512
    }

    fn put_pages(&mut self, numbers: &[u64]) -> u16 {
        let bytes: Vec<u8> =
            numbers.iter().flat_map(|page| u32::try_from(*page).unwrap().to_le_bytes()).collect();
        let address = self.driver.put(&bytes);
        self.driver.queue(0, &[Readable(address, bytes.len() as u32)])
    }

    fn tell(&mut self, entries: &[(u16, u64)]) -> u16 {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()[..]].concat())
            .collect();
        let address = self.driver.put(&bytes);
        let head = self.driver.queue(2, &[Readable(address, bytes.len() as u32)]);
        self.driver.notify(2);
        head
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.device.lock().unwrap().counters();
        counters.iter().find(|counter| counter.name == name).unwrap().value
    }

    fn stats(&self) -> BalloonStats {
        self.device.lock().unwrap().stats()
    }
}

#[test]
fn pages_in_the_balloon_are_the_hosts_again() {
    let mut guest = full();
    let first = SPARE >> 12;
    let head = guest.put_pages(&(first..first + 256).rev().collect::<Vec<_>>());
    let before = guest.resident();
    guest.driver.notify(0);
    assert_eq!(guest.driver.used(0), [(head, 0)]);
    assert_eq!(before - guest.resident(), layout::MIB);
    assert_eq!((guest.driver.get(SPARE, 1), guest.driver.get(SPARE + layout::MIB, 1)), (vec![0], vec![7]));
    assert_eq!((guest.count("inflate_count"), guest.count("inflate_freed")), (1, layout::MIB));
    let page = guest.driver.put(&(first as u32).to_le_bytes());
    guest.driver.queue(1, &[Readable(page, 4)]);
    guest.driver.notify(1);
    assert_eq!(guest.driver.used(1).len(), 1);
    assert_eq!(guest.count("deflate_count"), 1);
}

#[test]
fn reported_pages_are_the_hosts_again() {
    let mut guest = full();
    let before = guest.resident();
    guest.driver.queue(3, &[Writable(SPARE, 2 << 20), Writable(SPARE + (4 << 20), 4 << 20)]);
    guest.driver.notify(3);
    assert_eq!(guest.driver.used(3), [(0, 0)]);
    assert_eq!(before - guest.resident(), 6 * layout::MIB);
    assert_eq!(guest.count("free_page_report_freed"), 6 * layout::MIB);
}

#[test]
fn pages_that_are_no_ram_are_nobodys() {
    let mut guest = full();
    guest.put_pages(&[u64::from(MEMORY_MIB) << 8, 0xd0000, u64::from(u32::MAX)]);
    let before = guest.resident();
    guest.driver.queue(3, &[Writable(0xd000_0000, 4096), Writable(u64::MAX - 4095, 8192)]);
    guest.driver.notify(0);
    guest.driver.notify(3);
    assert_eq!((guest.driver.used(0).len(), guest.driver.used(3).len()), (1, 1));
    assert_eq!(guest.resident(), before);
    assert_eq!((guest.count("event_fails"), guest.count("free_page_report_fails")), (0, 0));
}

#[test]
fn the_driver_learns_the_target_and_tells_its_size() {
    let mut guest = full();
    assert_eq!(guest.driver.read32(0x100), 1024);
    let generation = guest.driver.read32(0xfc);
    guest.device.lock().unwrap().set_target_mib(8).unwrap();
    assert_eq!(guest.driver.read32(0x100), 2048);
    assert_ne!(guest.driver.read32(0xfc), generation);
    assert_eq!(guest.driver.read32(0x60), 2, "a change of the configuration");
    guest.driver.write32(0x104, 513);
    let stats = guest.stats();
    assert_eq!((stats.target_pages, stats.actual_pages), (2048, 513));
    assert_eq!((stats.target_mib, stats.actual_mib), (8, 2));
}

#[test]
fn a_balloon_is_no_larger_than_the_guest() {
    let mut balloon = Balloon::new(&config(), MEMORY_MIB).unwrap();
    balloon.set_target_mib(MEMORY_MIB).unwrap();
    let error = balloon.set_target_mib(MEMORY_MIB + 1).unwrap_err();
    assert!(error.to_string().contains("33 MiB does not fit in a guest of 32 MiB"), "{error}");
    assert_eq!(balloon.stats().target_mib, MEMORY_MIB);
    assert!(Balloon::new(&BalloonConfig { amount_mib: 33, ..config() }, MEMORY_MIB).is_err());
}

#[test]
fn the_guest_is_asked_by_its_own_buffer() {
    let mut guest = full();
    let head = guest.tell(&[(4, 100), (5, 200)]);
    assert_eq!(guest.driver.used(2), [], "kept until the next question");
    assert_eq!(guest.stats().guest.free_memory, Some(100));
    guest.device.lock().unwrap().set_stats_interval(1).unwrap();
    guest.driver.events.run_with_timeout(10_000).unwrap();
    assert_eq!(guest.driver.used(2), [(head, 0)]);
    guest.tell(&[(4, 50)]);
    let told = guest.stats().guest;
    assert_eq!((told.free_memory, told.total_memory), (Some(50), Some(200)));
    assert_eq!(guest.count("stats_updates_count"), 2);
}

#[test]
fn a_driver_with_event_indices_is_asked_to_tell_of_each_answer() {
    let mut guest = guest(&config(), config().features() | 1 << VIRTIO_RING_F_EVENT_IDX);
    for answers in 1..4 {
        guest.tell(&[(4, 100)]);
        assert_eq!(guest.driver.available_event(2), answers, "the next one is worth a notification");
        guest.device.lock().unwrap().set_stats_interval(1).unwrap();
        guest.driver.events.run_with_timeout(10_000).unwrap();
        assert_eq!(guest.driver.used(2).len(), 1);
    }
}

#[test]
fn a_second_buffer_for_statistics_replaces_the_first() {
    let mut guest = full();
    let first = guest.tell(&[(4, 1)]);
    let second = guest.tell(&[(4, 2)]);
    assert_ne!(first, second);
    assert_eq!(guest.driver.used(2), [(first, 0)]);
    assert_eq!(guest.stats().guest.free_memory, Some(2));
}

#[test]
fn a_balloon_without_statistics_says_so() {
    let none = BalloonConfig { stats_polling_interval_s: 0, ..config() };
    let error = Balloon::new(&none, MEMORY_MIB).unwrap().set_stats_interval(1).unwrap_err();
    assert!(matches!(error, BalloonError::NoStats), "{error}");
}

#[test]
fn a_driver_that_reports_no_pages_leaves_that_queue_out() {
    for features in [0, 1 << F_STATS_VQ, 1 << F_REPORTING] {
        let memory = map_guest_ram(u64::from(MEMORY_MIB) * layout::MIB).unwrap();
        let device = Arc::new(Mutex::new(Balloon::new(&config(), MEMORY_MIB).unwrap()));
        let mut driver = Driver::sharing(device.clone(), memory);
        driver.negotiate(VERSION_1 | features);
        driver.set_up_queues();
        let wanted = 2 + features.count_ones();
        for index in wanted..4 {
            driver.write32(0x30, index);
            driver.write32(0x44, 0);
        }
        driver.write32(0x70, 0xf);
        assert_eq!(driver.read32(0x70), 0xf, "{features:#x}");
        assert_eq!(device.lock().unwrap().positions().len() as u32, wanted);
        let last = device.lock().unwrap().role(2);
        let roles =
            [(0, None), (1 << F_STATS_VQ, Some(Role::Stats)), (1 << F_REPORTING, Some(Role::Reporting))];
        assert!(roles.contains(&(features, last)), "{features:#x}: {last:?}");
    }
}

#[test]
fn a_long_queue_is_served_in_turns() {
    let mut guest = full();
    for _ in 0..QUEUE_SIZE {
        guest.put_pages(&[SPARE >> 12]);
    }
    guest.driver.write32(0x50, 0);
    guest.driver.events.run_with_timeout(0).unwrap();
    assert_eq!(guest.count("inflate_count"), REQUESTS_PER_WAKE as u64);
    guest.driver.run();
    assert_eq!(guest.driver.used(0).len(), usize::from(QUEUE_SIZE));
}

#[test]
fn a_snapshot_keeps_sizes_and_puts_the_kept_buffer_back() {
    let mut guest = full();
    guest.tell(&[(4, 100)]);
    guest.put_pages(&[SPARE >> 12]);
    guest.driver.notify(0);
    guest.driver.write32(0x104, 1);
    let (saved, positions) = {
        let mut device = guest.device.lock().unwrap();
        device.set_stats_interval(60).unwrap();
        device.set_target_mib(9).unwrap();
        (device.save(), device.positions())
    };
    let position = |next_available, next_used| QueuePosition { next_available, next_used };
    assert_eq!(positions, [position(1, 1), position(0, 0), position(0, 0), position(0, 0)]);

    let mut restored = full();
    restored.device.lock().unwrap().restore(&saved).unwrap();
    restored.driver.run();
    let (stats, wanted) = (restored.stats(), guest.stats());
    assert_eq!(stats, wanted);
    assert_eq!(restored.driver.read32(0x100), 9 * 256);
    assert_eq!(restored.device.lock().unwrap().config().stats_polling_interval_s, 60);
    assert_eq!(restored.device.lock().unwrap().save(), saved);

    let none = BalloonConfig { stats_polling_interval_s: 0, ..config() };
    let error = Balloon::new(&none, MEMORY_MIB).unwrap().restore(&saved).unwrap_err();
    assert!(matches!(error, RestoreError::Mismatch(_)), "{error}");
    let error = restored.device.lock().unwrap().restore(&serde_json::json!({"sectors": 1})).unwrap_err();
    assert!(matches!(error, RestoreError::Form(_)), "{error}");
}

#[test]
fn malformed_requests_come_back_and_are_counted() {
    let mut guest = full();
    for queue in [0, 2, 3] {
        guest.driver.write_descriptor(
            queue,
            0,
            crate::virtio::testing::Descriptor { address: 0, length: 4, flags: 1, next: 0 },
        );
        guest.driver.offer(queue, 0);
        guest.driver.notify(queue);
    }
    assert_eq!((guest.driver.used(0), guest.driver.used(3)), (vec![(0, 0)], vec![(0, 0)]));
    for name in ["event_fails", "stats_update_fails", "free_page_report_fails"] {
        assert_eq!(guest.count(name), 1, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_chains_do_no_harm(requests in hostile::requests(), queue in 0usize..4) {
        let mut guest = full();
        let returned = hostile::run(&mut guest.driver, queue, &requests);
        let broken = guest.driver.read32(0x70) & 0x40 != 0;
        // The statistics' queue keeps one.
        let kept = usize::from(queue == 2);
        // A guest may well give away the pages that the rings are in, and then loses count.
        let lost = guest.count("inflate_freed") + guest.count("free_page_report_freed") > 0;
        prop_assert!(broken || lost || returned + kept == requests.1.len(), "{} came back", returned);
        guest.driver.start(VERSION_1 | config().features());
        prop_assert_eq!(guest.driver.read32(0x70), 0xf);
    }
}
