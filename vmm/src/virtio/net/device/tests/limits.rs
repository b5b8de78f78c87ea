//! Rate limits, counters, and what a snapshot sees of the queues.

use std::time::{Duration, Instant};

use super::*;
use crate::virtio::rate_limit::TokenBucketConfig;

/// Buckets that hold this much and do not fill again while a test runs.
fn at_most(bytes: Option<u64>, frames: Option<u64>) -> RateLimiterConfig {
    let bucket = |size| TokenBucketConfig { size, one_time_burst: None, refill_time: 3_600_000 };
    RateLimiterConfig { bandwidth: bytes.map(bucket), ops: frames.map(bucket) }
}

fn any_number() -> RateLimiterConfig {
    let no_limit = Some(TokenBucketConfig::default());
    RateLimiterConfig { bandwidth: no_limit, ops: no_limit }
}

#[test]
fn what_the_guest_sends_beyond_its_limit_waits_in_its_queue() {
    for (limits, admitted) in [(at_most(Some(1000), None), 3), (at_most(None, Some(4)), 4)] {
        let mut guest = guest_with(NetConfig { tx_rate_limiter: limits, ..CONFIG }, 0);
        for _ in 0..6 {
            let address = guest.driver.put(&frame(300));
            guest.driver.queue(TRANSMIT, &[Readable(address, 312)]);
        }
        guest.driver.notify(TRANSMIT);
        assert_eq!(guest.driver.used(TRANSMIT).len(), admitted);
        assert_eq!(std::iter::from_fn(|| guest.sent()).count(), admitted);
        // Asking again does not help; a limit that is lifted does.
        guest.driver.notify(TRANSMIT);
        assert_eq!(guest.driver.used(TRANSMIT), []);
        assert!(guest.count("tx_rate_limiter_throttled") > 0);
        guest.update(&NO_LIMITS, &any_number());
        assert_eq!(guest.driver.used(TRANSMIT).len(), 6 - admitted);
        assert_eq!((guest.count("tx_packets_count"), guest.count("tx_bytes_count")), (6, 1800));
    }
}

#[test]
fn what_comes_for_the_guest_beyond_its_limit_waits_in_the_tap() {
    // The frame that uses the limit up goes through; it is paid for by the next.
    for (limits, admitted) in [(at_most(Some(1000), None), 4), (at_most(None, Some(2)), 2)] {
        let mut guest = guest_with(NetConfig { rx_rate_limiter: limits, ..CONFIG }, 0);
        guest.give_buffers(8, 1530);
        for _ in 0..6 {
            guest.arrive(&frame(300));
        }
        assert_eq!(guest.driver.used(RECEIVE).len(), admitted);
        assert!(guest.count("rx_rate_limiter_throttled") > 0);
        guest.update(&any_number(), &NO_LIMITS);
        assert_eq!(guest.driver.used(RECEIVE).len(), 6 - admitted);
        assert_eq!((guest.count("rx_packets_count"), guest.count("rx_bytes_count")), (6, 1800));
    }
}

#[test]
fn what_was_used_of_the_limits_stays_used_in_a_machine_that_goes_on() {
    let limited = || {
        let (receive, transmit) = (at_most(None, Some(2)), at_most(None, Some(4)));
        guest_with(NetConfig { rx_rate_limiter: receive, tx_rate_limiter: transmit, ..CONFIG }, 0)
    };
    let send = |guest: &mut Guest, count: usize| {
        for _ in 0..count {
            let address = guest.driver.put(&frame(300));
            guest.driver.queue(TRANSMIT, &[Readable(address, 312)]);
        }
        guest.driver.notify(TRANSMIT);
        guest.driver.used(TRANSMIT).len()
    };
    let mut guest = limited();
    guest.give_buffers(8, 1530);
    guest.arrive(&frame(300));
    assert_eq!((guest.driver.used(RECEIVE).len(), send(&mut guest, 3)), (1, 3));
    let saved = guest.device.lock().unwrap().save();

    let mut copy = limited();
    copy.device.lock().unwrap().restore(&saved).unwrap();
    copy.give_buffers(8, 1530);
    copy.arrive(&frame(300));
    copy.arrive(&frame(300));
    assert_eq!((copy.driver.used(RECEIVE).len(), send(&mut copy, 3)), (1, 1));
}

#[test]
fn the_timer_wakes_both_directions() {
    let bandwidth = Some(TokenBucketConfig { size: 500, one_time_burst: None, refill_time: 50 });
    let limits = RateLimiterConfig { bandwidth, ops: None };
    let mut guest = guest_with(NetConfig { rx_rate_limiter: limits, tx_rate_limiter: limits, ..CONFIG }, 0);
    guest.give_buffers(6, 1530);
    for _ in 0..6 {
        guest.host.send(&frame(400)).unwrap();
        let address = guest.driver.put(&frame(400));
        guest.driver.queue(TRANSMIT, &[Readable(address, 412)]);
    }
    let start = Instant::now();
    guest.driver.notify(TRANSMIT);
    let (mut received, mut sent) = (0, 0);
    while (received, sent) != (6, 6) && start.elapsed() < Duration::from_secs(20) {
        guest.driver.events.run_with_timeout(10).unwrap();
        received += guest.driver.used(RECEIVE).len();
        sent += guest.driver.used(TRANSMIT).len();
    }
    assert_eq!((received, sent), (6, 6));
    // 2400 bytes at 10 a millisecond, less the full bucket.
    assert!(start.elapsed() > Duration::from_millis(140), "{:?}", start.elapsed());
}

#[test]
fn a_reset_leaves_the_timers_harmless() {
    let limits = at_most(None, Some(1));
    let mut guest = guest_with(NetConfig { rx_rate_limiter: limits, tx_rate_limiter: limits, ..CONFIG }, 0);
    guest.give_buffers(4, 1530);
    for _ in 0..3 {
        guest.arrive(&frame(100));
    }
    guest.driver.write32(0x70, 0);
    guest.driver.run();
    guest.driver.start(VERSION_1);
    guest.update(&any_number(), &any_number());
    guest.give_buffers(4, 1530);
    assert_eq!(guest.driver.used(RECEIVE).len(), 2, "those that the tap still had");
}

#[test]
fn frames_that_come_to_nothing_are_counted() {
    let mut guest = guest(0);
    let address = guest.driver.put(&frame(100));
    for buffers in [[Readable(address, 20)], [Readable(MEMORY_SIZE, 100)], [Writable(address, 100)]] {
        guest.driver.queue(TRANSMIT, &buffers);
    }
    guest.driver.notify(TRANSMIT);
    assert_eq!((guest.count("tx_malformed_frames"), guest.count("tx_fails")), (3, 3));
    guest.arrive(&frame(100));
    assert!(guest.count("no_rx_avail_buffer") > 0);
    assert_eq!(guest.count("rx_packets_count"), 0);
    guest.host = UnixDatagram::unbound().unwrap();
    guest.driver.queue(TRANSMIT, &[Readable(address, 100)]);
    guest.driver.notify(TRANSMIT);
    assert_eq!((guest.count("tap_write_fails"), guest.count("tx_bytes_count")), (1, 0));
}

#[test]
fn buffers_that_are_still_empty_count_as_not_taken() {
    let mut guest = guest(MERGEABLE | SEGMENTS);
    assert_eq!(guest.positions(), [QueuePosition::default(); 2]);
    guest.give_buffers(60, 1536);
    guest.arrive(&frame(4000));
    guest.send(&frame(60));
    let at = |next_available, next_used| QueuePosition { next_available, next_used };
    assert_eq!(guest.positions(), [at(3, 3), at(1, 1)]);
    // Asking changes nothing.
    guest.arrive(&frame(50));
    assert_eq!(guest.positions(), [at(4, 4), at(1, 1)]);
    guest.driver.write32(0x70, 0);
    assert_eq!(guest.positions(), []);
}

proptest::proptest! {
    #[test]
    fn a_limit_neither_loses_nor_doubles_frames(
        lengths in proptest::collection::vec(14usize..1500, 1..9),
        (bytes, frames) in (1u64..6000, 1u64..9),
    ) {
        let limits = at_most(Some(bytes), Some(frames));
        let config = NetConfig { rx_rate_limiter: limits, tx_rate_limiter: limits, ..CONFIG };
        let mut guest = guest_with(config, 0);
        guest.give_buffers(10, 1530);
        for &length in &lengths {
            guest.host.send(&frame(length)).unwrap();
            let address = guest.driver.put(&frame(length));
            guest.driver.queue(TRANSMIT, &[Readable(address, length as u32 + 12)]);
        }
        guest.driver.notify(TRANSMIT);
        let (mut received, mut sent) = (guest.driver.used(RECEIVE), guest.driver.used(TRANSMIT).len());
        proptest::prop_assert!(received.len().max(sent) as u64 <= frames);
        let total: u64 = lengths[..sent].iter().map(|&length| length as u64).sum();
        let last = sent.checked_sub(1).map_or(0, |last| lengths[last] as u64);
        proptest::prop_assert!(total <= bytes || (last > bytes && total - last <= bytes));
        guest.update(&any_number(), &any_number());
        received.extend(guest.driver.used(RECEIVE));
        sent += guest.driver.used(TRANSMIT).len();
        let wanted: Vec<u32> = lengths.iter().map(|&length| length as u32 + 12).collect();
        proptest::prop_assert_eq!(received.iter().map(|used| used.1).collect::<Vec<_>>(), wanted);
        proptest::prop_assert_eq!(sent, lengths.len());
        let crossed: Vec<usize> = std::iter::from_fn(|| guest.sent()).map(|bytes| bytes.len() - 12).collect();
        proptest::prop_assert_eq!(crossed, lengths);
    }
}
