//! Rate limits.

use super::*;
use crate::virtio::rate_limit::TokenBucketConfig;

#[test]
fn requests_beyond_the_rate_wait_their_turn_and_none_is_lost() {
    let ops = TokenBucketConfig { size: 3, one_time_burst: None, refill_time: 60 };
    let mut fixture = disk_with(|config| config.rate_limiter.ops = Some(ops));
    let driver = &mut fixture.driver;
    let buffer = driver.allocate(512);
    let header = driver.put(&header(VIRTIO_BLK_T_IN, 5));
    let status = driver.put(&[NO_ANSWER]);
    for _ in 0..9 {
        driver.queue(0, &[Readable(header, 16), Writable(buffer, 512), Writable(status, 1)]);
    }
    let start = std::time::Instant::now();
    driver.notify(0);
    let mut returned = driver.used(0).len();
    assert!((3..9).contains(&returned), "{returned} at once");
    while returned < 9 {
        driver.events.run_with_timeout(1000).unwrap();
        returned += driver.used(0).len();
    }
    assert!(start.elapsed() >= std::time::Duration::from_millis(110), "{:?}", start.elapsed());
    assert!(fixture.counter("rate_limiter_throttled_events") > 0);
    assert!(fixture.counter("rate_limiter_event_count") > 0);
    assert_eq!(fixture.counter("read_count"), 9);
}

#[test]
fn a_rate_limit_that_is_lifted_lets_waiting_requests_through() {
    let hour = TokenBucketConfig { size: 512, one_time_burst: None, refill_time: 3_600_000 };
    let mut fixture = disk_with(|config| config.rate_limiter.bandwidth = Some(hour));
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 5, Writable(buffer, 512)), (OK, 513));
    let driver = &mut fixture.driver;
    let header = driver.put(&header(VIRTIO_BLK_T_IN, 6));
    let status = driver.put(&[NO_ANSWER]);
    driver.queue(0, &[Readable(header, 16), Writable(buffer, 512), Writable(status, 1)]);
    driver.notify(0);
    assert_eq!(driver.used(0), []);
    let before = fixture.block.lock().unwrap().positions();
    assert_eq!((before[0].next_available, before[0].next_used), (1, 1), "a chain that waits was not taken");
    let none = TokenBucketConfig { size: 0, one_time_burst: None, refill_time: 0 };
    let limits = RateLimiterConfig { bandwidth: Some(none), ops: None };
    fixture.block.lock().unwrap().update_rate_limiter(&limits).unwrap();
    fixture.driver.run();
    assert_eq!(fixture.driver.used(0).len(), 1);
    assert_eq!(fixture.driver.get(buffer, 512), [6; 512]);
}

#[test]
fn what_was_used_of_a_limit_stays_used_in_a_machine_that_goes_on() {
    let hour = TokenBucketConfig { size: 512, one_time_burst: None, refill_time: 3_600_000 };
    let limited = || disk_with(|config| config.rate_limiter.bandwidth = Some(hour));
    let mut fixture = limited();
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 5, Writable(buffer, 512)), (OK, 513));
    let saved = fixture.block.lock().unwrap().save();

    let mut fixture = limited();
    fixture.block.lock().unwrap().restore(&saved).unwrap();
    let driver = &mut fixture.driver;
    let buffer = driver.allocate(512);
    let (header, status) = (driver.put(&header(VIRTIO_BLK_T_IN, 6)), driver.put(&[NO_ANSWER]));
    driver.queue(0, &[Readable(header, 16), Writable(buffer, 512), Writable(status, 1)]);
    driver.notify(0);
    assert_eq!(driver.used(0), []);
    assert!(fixture.block.lock().unwrap().restore(&serde_json::json!({ "bandwidth": "none" })).is_err());
}
