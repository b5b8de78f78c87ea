//! The entropy device against a driver.

use std::sync::{Arc, Mutex};

use super::*;
use crate::virtio::rate_limit::TokenBucketConfig;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, hostile};

fn started() -> (Driver, Arc<Mutex<Rng>>) {
    started_with(&RateLimiterConfig::default())
}

fn started_with(limits: &RateLimiterConfig) -> (Driver, Arc<Mutex<Rng>>) {
    let device = Arc::new(Mutex::new(Rng::new(limits).unwrap()));
    (Driver::started_sharing(device.clone()), device)
}

fn count(device: &Mutex<Rng>, name: &str) -> u64 {
    let counters = device.lock().unwrap().counters();
    counters.iter().find(|counter| counter.name == name).unwrap().value
}

#[test]
fn every_request_gets_other_bytes() {
    let (mut driver, device) = started();
    let buffers = [driver.allocate(64), driver.allocate(64)];
    for buffer in buffers {
        driver.queue(0, &[Writable(buffer, 40), Writable(buffer + 40, 24)]);
    }
    driver.notify(0);
    assert_eq!(driver.used(0), [(0, 64), (2, 64)]);
    assert_ne!(driver.get(buffers[0], 64), driver.get(buffers[1], 64));
    assert_eq!((count(&device, "entropy_event_count"), count(&device, "entropy_bytes")), (2, 128));
}

#[test]
fn useless_buffers_come_back_empty() {
    let (mut driver, device) = started();
    let buffer = driver.allocate(64);
    for buffers in [[Readable(buffer, 64)], [Writable(u64::MAX - 70, 64)], [Writable(0xffff_0000, 64)]] {
        driver.queue(0, &buffers);
    }
    driver.notify(0);
    assert_eq!(driver.used(0), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(count(&device, "entropy_event_fails"), 2);
    driver.queue(0, &[Writable(buffer, 64)]);
    driver.notify(0);
    assert_eq!(driver.used(0), [(3, 64)], "the device lives on");
}

#[test]
fn a_greedy_guest_gets_its_bytes_in_several_turns() {
    let (mut driver, device) = started();
    let buffer = driver.allocate(0x10_0000);
    for _ in 0..20 {
        driver.queue(0, &[Writable(buffer, 0x10_0000)]);
    }
    driver.write32(0x50, 0);
    driver.events.run_with_timeout(0).unwrap();
    assert_eq!(count(&device, "entropy_bytes"), BYTES_PER_WAKE as u64);
    driver.run();
    assert_eq!(count(&device, "entropy_bytes"), 20 * fill::MAX_REQUEST as u64);
    assert_eq!(driver.used(0).len(), 20);
}

#[test]
fn a_limit_makes_requests_wait() {
    let bandwidth = Some(TokenBucketConfig { size: 64, one_time_burst: None, refill_time: 20 });
    let (mut driver, device) = started_with(&RateLimiterConfig { bandwidth, ops: None });
    let buffer = driver.allocate(64);
    for _ in 0..3 {
        driver.queue(0, &[Writable(buffer, 64)]);
    }
    driver.notify(0);
    let mut served = driver.used(0).len();
    assert!(served < 3, "{served} at once");
    while served < 3 {
        driver.events.run_with_timeout(10_000).unwrap();
        served += driver.used(0).len();
    }
    assert!(count(&device, "entropy_rate_limiter_throttled") > 0);
}

#[test]
fn it_works_again_after_a_reset() {
    let (mut driver, device) = started();
    driver.write32(0x70, 0);
    assert!(device.lock().unwrap().positions().is_empty());
    driver.start(1 << 32);
    let buffer = driver.allocate(8);
    driver.queue(0, &[Writable(buffer, 8)]);
    driver.notify(0);
    assert_eq!(driver.used(0), [(0, 8)]);
    let position = QueuePosition { next_available: 1, next_used: 1 };
    assert_eq!(device.lock().unwrap().positions(), [position]);
}

proptest::proptest! {
    #[test]
    fn hostile_chains_come_back(requests in hostile::requests()) {
        let (mut driver, _device) = started();
        let returned = hostile::run(&mut driver, 0, &requests);
        let broken = driver.read32(0x70) & 0x40 != 0;
        proptest::prop_assert!(broken || returned == requests.1.len(), "{} came back", returned);
    }
}
