//! The transport against a driver, with a device that only counts what happens to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::virtio::device::{EventHandler, QueuePosition, VirtioDevice};
use crate::virtio::testing::{Buffer, Driver};

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

#[derive(Debug, Default)]
struct Counters {
    activated: AtomicUsize,
    reset: AtomicUsize,
    woken: AtomicUsize,
}

/// Returns every chain of its two queues unread; has one writable config byte.
#[derive(Debug, Default)]
struct Echo {
    counters: Arc<Counters>,
    queues: Vec<VirtQueue>,
    config: [u8; 3],
    refuse: bool,
}

impl EventHandler for Echo {
    fn on_queue(&mut self, index: usize) {
        self.counters.woken.fetch_add(1, Ordering::SeqCst);
        if let Some(queue) = self.queues.get_mut(index) {
            queue.serve(|_, _| Some(0));
        }
    }
}

impl VirtioDevice for Echo {
    fn device_type(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        1 << 3
    }
    fn queue_max_sizes(&self) -> &[u16] {
        &[16, 8]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::config_space::read(&self.config, offset, data);
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if offset == 2 && data.len() == 1 {
            self.config[2] = data[0];
        }
    }
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.refuse {
            return Err(ActivateError::Backend { what: "nothing", source: io::ErrorKind::Other.into() });
        }
        self.counters.activated.fetch_add(1, Ordering::SeqCst);
        self.queues = activation.queues;
        Ok(())
    }
    fn reset(&mut self) {
        self.counters.reset.fetch_add(1, Ordering::SeqCst);
        self.queues.clear();
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        self.queues.iter().map(VirtQueue::position).collect()
    }
}

fn echo() -> (Driver, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Driver::new(Echo { counters: Arc::clone(&counters), config: [7, 8, 9], ..Echo::default() }), counters)
}

#[test]
fn identifies_itself() {
    let (mut driver, _) = echo();
    let cases = [(0x00, 0x7472_6976), (0x04, 2), (0x08, 42), (0xfc, 0), (0xb0, u32::MAX), (0xff0, 0)];
    for (offset, wanted) in cases {
        assert_eq!(driver.read32(offset), wanted, "register {offset:#x}");
    }
    assert_eq!(driver.offered(), 1 << 3 | TRANSPORT_FEATURES);
    driver.write32(0x14, 2);
    assert_eq!(driver.read32(0x10), 0);
}

#[test]
fn registers_answer_aligned_words_only() {
    let (mut driver, _) = echo();
    for (offset, width) in [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (0, 3)] {
        let mut data = vec![0xff; width];
        driver.transport.read(offset, &mut data);
        assert_eq!(data, vec![0; width], "{width} bytes at {offset}");
        driver.transport.write(offset, &data);
    }
}

#[test]
fn config_space_takes_any_width_within_bounds() {
    let (mut driver, _) = echo();
    driver.transport.write(0x102, &[5]);
    for (offset, wanted) in
        [(0x100, vec![7, 8, 5, 0]), (0x101, vec![8, 5]), (0x102, vec![5]), (0xff8, vec![0; 8])]
    {
        let mut data = vec![0xff; wanted.len()];
        driver.transport.read(offset, &mut data);
        assert_eq!(data, wanted, "{offset:#x}");
    }
}

#[test]
fn agrees_only_to_features_that_were_offered() {
    let cases = [
        (VERSION_1, true),
        (VERSION_1 | EVENT_IDX | 1 << 3, true),
        (0, false),
        (1 << 3, false),
        (VERSION_1 | 1 << 4, false),
        (VERSION_1 | 1 << 63, false),
    ];
    for (features, agreed) in cases {
        let (mut driver, _) = echo();
        driver.negotiate(features);
        assert_eq!(driver.read32(0x70), if agreed { 0xb } else { 3 }, "{features:#x}");
    }
}

#[test]
fn features_cannot_change_once_agreed() {
    let (mut driver, _) = echo();
    driver.negotiate(VERSION_1);
    driver.write32(0x24, 0);
    driver.write32(0x20, 1 << 3);
    assert_eq!(driver.transport.state().driver_features, VERSION_1);
}

#[test]
fn queues_are_set_up_only_in_their_step_and_only_until_ready() {
    let (mut driver, _) = echo();
    driver.write32(0x80, 0x1000);
    assert_eq!(driver.transport.state().queues[0].descriptors, 0);
    driver.negotiate(VERSION_1);
    driver.write32(0x80, 0x1000);
    driver.write32(0x44, 1);
    driver.write32(0x80, 0x2000);
    assert_eq!(driver.transport.state().queues[0].descriptors, 0x1000);
    driver.write32(0x30, 9);
    assert_eq!((driver.read32(0x34), driver.read32(0x44)), (0, 0));
    driver.write32(0x80, 0x3000);
}

#[test]
fn serves_a_queue_from_driver_ok_on() {
    let (mut driver, counters) = echo();
    driver.start(VERSION_1);
    assert_eq!(counters.activated.load(Ordering::SeqCst), 1);
    let head = driver.queue(1, &[Buffer::Readable(0x10_0000, 4)]);
    driver.notify(1);
    assert_eq!(driver.used(1), [(head, 0)]);
    assert_eq!((driver.interrupts.count(), driver.read32(0x60)), (1, 1));
    driver.write32(0x64, 1);
    assert_eq!(driver.read32(0x60), 0);
}

#[test]
fn a_kick_before_the_event_loop_noticed_is_not_lost() {
    let (mut driver, _) = echo();
    driver.negotiate(VERSION_1);
    driver.set_up_queues();
    driver.write32(0x70, 0xf);
    let head = driver.queue(0, &[Buffer::Readable(0x10_0000, 4)]);
    driver.write32(0x50, 0);
    driver.run();
    assert_eq!(driver.used(0), [(head, 0)]);
}

#[test]
fn notifying_a_queue_that_is_not_there_does_nothing() {
    let (mut driver, counters) = echo();
    driver.start(VERSION_1);
    for index in [2, 77, u32::MAX] {
        driver.write32(0x50, index);
    }
    driver.run();
    assert_eq!(counters.woken.load(Ordering::SeqCst), 0);
}

#[test]
fn the_event_index_suppresses_interrupts() {
    let (mut driver, _) = echo();
    driver.start(VERSION_1 | EVENT_IDX);
    driver.set_used_event(0, 2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        driver.queue(0, &[Buffer::Readable(0x10_0000, 4)]);
        driver.notify(0);
        seen.push(driver.interrupts.count());
    }
    assert_eq!(seen, [0, 0, 1, 1]);
}

#[test]
fn stops_at_reset_and_starts_again() {
    let (mut driver, counters) = echo();
    for round in 1..=3 {
        driver.start(VERSION_1);
        driver.queue(0, &[Buffer::Readable(0x10_0000, 4)]);
        driver.notify(0);
        assert_eq!((driver.used(0).len(), driver.read32(0x60)), (1, 1), "round {round}");
        assert_eq!(counters.activated.load(Ordering::SeqCst), round);

        driver.write32(0x70, 0);
        assert_eq!((driver.read32(0x70), driver.read32(0x60), driver.read32(0x44)), (0, 0, 0));
        assert_eq!(*driver.transport.state(), TransportState::new(&[16, 8]));
        assert_eq!(counters.reset.load(Ordering::SeqCst), round);
        driver.run();
        let woken = counters.woken.load(Ordering::SeqCst);
        driver.notify(0);
        assert_eq!(counters.woken.load(Ordering::SeqCst), woken, "polled after reset");
        assert_eq!(driver.used(0), []);
    }
}

#[test]
fn a_reset_before_activation_does_not_reach_the_device() {
    let (mut driver, counters) = echo();
    driver.negotiate(VERSION_1);
    driver.write32(0x70, 0);
    assert_eq!(counters.reset.load(Ordering::SeqCst), 0);
}

#[test]
fn asks_for_a_reset_when_it_cannot_start() {
    type Spoil = fn(&mut Driver);
    let spoils: [(&str, Spoil); 3] = [
        ("not ready", |driver| driver.write32(0x44, 0)),
        ("descriptor table outside of memory", |driver| {
            driver.write32(0x44, 0);
            driver.write32(0x84, 1);
            driver.write32(0x44, 1);
        }),
        ("size of three", |driver| {
            driver.write32(0x44, 0);
            driver.write32(0x38, 3);
            driver.write32(0x44, 1);
        }),
    ];
    for (name, spoil) in spoils {
        let (mut driver, counters) = echo();
        driver.negotiate(VERSION_1);
        driver.set_up_queues();
        driver.write32(0x30, 1);
        spoil(&mut driver);
        driver.write32(0x70, 0xf);
        assert_eq!((driver.read32(0x70), driver.read32(0x60)), (0x4f, 2), "{name}");
        assert_eq!(counters.activated.load(Ordering::SeqCst), 0, "{name}");
        driver.start(VERSION_1);
        assert_eq!(driver.read32(0x70), 0xf, "{name}: recovers by reset");
    }
}

#[test]
fn asks_for_a_reset_when_the_device_refuses() {
    let mut driver = Driver::new(Echo { refuse: true, ..Echo::default() });
    driver.start(VERSION_1);
    assert_eq!(driver.read32(0x70), 0x4f);
}

#[test]
fn asks_for_a_reset_when_a_ring_is_broken() {
    let (mut driver, _) = echo();
    driver.start(VERSION_1);
    driver.set_available_index(0, 17);
    driver.notify(0);
    assert_eq!((driver.read32(0x70), driver.read32(0x60)), (0x4f, 2));
    assert_eq!(driver.interrupts.count(), 1);
    driver.start(VERSION_1);
    driver.queue(0, &[Buffer::Readable(0x10_0000, 4)]);
    driver.notify(0);
    assert_eq!(driver.used(0).len(), 1);
}

#[test]
fn a_failed_driver_stays_failed_until_reset() {
    let (mut driver, _) = echo();
    driver.start(VERSION_1);
    driver.write32(0x70, 0x8f);
    driver.write32(0x70, 0xf);
    assert_eq!(driver.read32(0x70), 0x8f);
    driver.start(VERSION_1);
    assert_eq!(driver.read32(0x70), 0xf);
}

proptest::proptest! {
    #[test]
    fn survives_any_register_traffic(
        accesses in proptest::collection::vec((0u64..0x120, proptest::num::u32::ANY, 0usize..9), 0..200)
    ) {
        let (mut driver, _) = echo();
        for (offset, value, width) in accesses {
            if width < 5 {
                driver.write32(offset & !3, value & 0xff);
            } else {
                let mut data = vec![0; width];
                driver.transport.read(offset, &mut data);
                driver.transport.write(offset, &data);
            }
        }
        driver.run();
        driver.start(VERSION_1);
        proptest::prop_assert_eq!(driver.read32(0x70), 0xf);
    }
}
