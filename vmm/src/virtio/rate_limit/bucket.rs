//! A token bucket: what may be used, how much of it at once, and how fast it comes back. Time is given to it.
//!
//! The shape is that of Firecracker's rate limiter (docs/api_requests/patch-drive.md there): `size` tokens come back
//! over `refill_time`, steadily; an extra `one_time_burst` is used first and never comes back; what wants more than
//! `size` at once gets it and leaves a debt, which is paid before anything else is admitted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Refill times are cut to this many milliseconds, 49 days, so that levels can be counted without overflow.
const MAX_REFILL_MS: u64 = u32::MAX as u64;

/// A bucket as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucketConfig {
    /// Tokens in the full bucket. Zero is no limit.
    pub size: u64,
    /// Tokens to begin with, besides the full bucket.
    #[serde(default)]
    pub one_time_burst: Option<u64>,
    /// Milliseconds in which an empty bucket fills. Zero is no limit.
    pub refill_time: u64,
}

impl TokenBucketConfig {
    /// As much as this each second, and no more than a second's worth at once.
    pub fn per_second(size: u64) -> Self {
        Self { size, one_time_burst: None, refill_time: 1000 }
    }
}

/// A bucket as a snapshot keeps it: what has been used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBucket {
    /// What is left of the extra tokens.
    burst: u64,
    /// Nanoseconds until it is full, if nothing is taken.
    full_in_ns: u64,
}

/// A bucket in use.
///
/// Its level is counted in parts of a token, `refill_ns` to one, of which `size` come back each nanosecond: so nothing
/// is lost to rounding however often it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    size: u64,
    refill_ns: u64,
    burst: u64,
    /// Parts of a token; below zero is a debt.
    level: i128,
    /// Time at which the level was right.
    at: Duration,
}

impl Bucket {
    /// A full bucket; `None` where the configuration is no limit.
    pub(super) fn new(config: &TokenBucketConfig, now: Duration) -> Option<Self> {
        if config.size == 0 || config.refill_time == 0 {
            return None;
        }
        let refill_ns = config.refill_time.min(MAX_REFILL_MS) * 1_000_000;
        let mut bucket = Self {
            size: config.size,
            refill_ns,
            burst: config.one_time_burst.unwrap_or(0),
            level: 0,
            at: now,
        };
        bucket.level = bucket.parts(config.size);
        Some(bucket)
    }

    /// How long it takes until `tokens` may be taken; zero if they may be taken now.
    pub(super) fn wait(&mut self, tokens: u64, now: Duration) -> Duration {
        self.refill(now);
        let tokens = tokens.saturating_sub(self.burst);
        // More than a full bucket is waited for as long as there is a debt, and then leaves one.
        let wanted = if tokens > self.size { 0 } else { self.parts(tokens) };
        let missing = wanted.saturating_sub(self.level).max(0).unsigned_abs();
        Duration::from_nanos(u64::try_from(missing.div_ceil(u128::from(self.size))).unwrap_or(u64::MAX))
    }

    /// Takes `tokens`, for which [`Self::wait`] was zero.
    pub(super) fn take(&mut self, tokens: u64) {
        let burst = tokens.min(self.burst);
        self.burst -= burst;
        self.level = self.level.saturating_sub(self.parts(tokens - burst));
    }

    /// What has been used of it by now.
    pub(super) fn save(mut self, now: Duration) -> SavedBucket {
        self.refill(now);
        let missing = self.parts(self.size).saturating_sub(self.level).max(0).unsigned_abs();
        let full_in_ns = u64::try_from(missing.div_ceil(u128::from(self.size))).unwrap_or(u64::MAX);
        SavedBucket { burst: self.burst, full_in_ns }
    }

    /// Has as much of it be used as of the one that was saved. The time between does not count.
    pub(super) fn restore(&mut self, saved: &SavedBucket, now: Duration) {
        let missing = i128::from(saved.full_in_ns).saturating_mul(i128::from(self.size));
        self.level = self.parts(self.size).saturating_sub(missing);
        self.burst = self.burst.min(saved.burst);
        self.at = now;
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        let back = i128::try_from(passed.saturating_mul(u128::from(self.size))).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(back).min(self.parts(self.size));
    }

    /// `tokens` in the unit of the level: at most 2^64 times 2^52.
    fn parts(&self, tokens: u64) -> i128 {
        i128::from(tokens) * i128::from(self.refill_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(size: u64, burst: u64, refill_time: u64) -> Bucket {
        let config = TokenBucketConfig { size, one_time_burst: Some(burst), refill_time };
        Bucket::new(&config, Duration::ZERO).unwrap()
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_size_or_time_of_zero_is_no_limit() {
        for (size, refill_time) in [(0, 1), (1, 0), (0, 0)] {
            let config = TokenBucketConfig { size, one_time_burst: Some(9), refill_time };
            assert_eq!(Bucket::new(&config, Duration::ZERO), None);
        }
    }

    #[test]
    fn fills_steadily_and_not_beyond_its_size() {
        let mut bucket = bucket(1000, 0, 1000);
        assert_eq!(bucket.wait(1000, ms(0)), ms(0));
        bucket.take(1000);
        assert_eq!(bucket.wait(1, ms(0)), ms(1));
        assert_eq!(bucket.wait(500, ms(100)), ms(400));
        assert_eq!(bucket.wait(500, ms(500)), ms(0));
        bucket.take(500);
        assert_eq!(bucket.wait(1000, ms(60_000)), ms(0));
        bucket.take(1000);
        assert_eq!(bucket.wait(1000, ms(60_000)), ms(1000));
    }

    #[test]
    fn the_burst_is_used_first_and_once() {
        let mut bucket = bucket(100, 250, 1000);
        assert_eq!(bucket.wait(300, ms(0)), ms(0));
        bucket.take(300);
        assert_eq!(bucket.wait(50, ms(0)), ms(0));
        bucket.take(50);
        assert_eq!(bucket.wait(100, ms(100_000)), ms(0));
        bucket.take(100);
        assert_eq!(bucket.wait(1, ms(100_000)), ms(10));
    }

    #[test]
    fn more_than_the_size_goes_through_and_is_paid_for_afterwards() {
        let mut bucket = bucket(100, 0, 1000);
        assert_eq!(bucket.wait(500, ms(0)), ms(0));
        bucket.take(500);
        assert_eq!(bucket.wait(0, ms(0)), ms(4000));
        assert_eq!(bucket.wait(500, ms(3000)), ms(1000));
        assert_eq!(bucket.wait(500, ms(4000)), ms(0));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut bucket = bucket(10, 0, 10);
        assert_eq!(bucket.wait(10, ms(100)), ms(0));
        bucket.take(10);
        assert_eq!(bucket.wait(10, ms(50)), ms(10));
        assert_eq!(bucket.wait(10, ms(105)), ms(5));
    }

    proptest! {
        #[test]
        fn what_was_saved_goes_on_as_if_no_time_had_passed(
            (size, burst, refill) in (1u64..10_000, 0u64..10_000, 1u64..10_000),
            (taken, then, wanted) in (0u64..30_000, 0u64..1_000_000, 0u64..20_000),
        ) {
            let mut original = bucket(size, burst, refill);
            original.take(taken);
            let (then, later) = (Duration::from_micros(then), Duration::from_secs(1_000_000));
            let mut copy = bucket(size, burst, refill);
            copy.restore(&original.save(then), later);
            let (expected, found) = (original.wait(wanted, then), copy.wait(wanted, later));
            // What it lacks is counted in whole nanoseconds.
            prop_assert!(found - expected <= Duration::from_nanos(1), "{found:?} for {expected:?}");
        }

        #[test]
        fn no_more_is_admitted_than_was_configured_and_what_waits_gets_through(
            (size, burst, refill) in (1u64..10_000, 0u64..10_000, 1u64..10_000),
            wishes in prop::collection::vec((0u64..20_000, 0u64..3_000_000_000), 1..100),
        ) {
            let mut bucket = bucket(size, burst, refill);
            let (mut now, mut admitted, mut largest) = (Duration::ZERO, 0, 0);
            for (tokens, pause_ns) in wishes {
                now += Duration::from_nanos(pause_ns);
                let wait = bucket.wait(tokens, now);
                if wait > Duration::ZERO {
                    // One nanosecond less is not enough, and the time that was said is.
                    let early = wait - Duration::from_nanos(1);
                    prop_assert!(bucket.wait(tokens, now + early) > Duration::ZERO);
                    now += wait;
                    prop_assert_eq!(bucket.wait(tokens, now), Duration::ZERO);
                }
                bucket.take(tokens);
                admitted += u128::from(tokens);
                largest = largest.max(tokens);
                let earned = now.as_nanos() * u128::from(size) / (u128::from(refill) * 1_000_000);
                prop_assert!(admitted <= u128::from(burst + size + largest) + earned + 1);
            }
        }

        #[test]
        fn looking_often_loses_nothing(size in 1u64..1000, steps in prop::collection::vec(1u64..1000, 1..200)) {
            let (mut watched, mut left) = (bucket(size, 0, 7), bucket(size, 0, 7));
            watched.take(size);
            left.take(size);
            let mut now = Duration::ZERO;
            for step in steps {
                now += Duration::from_nanos(step);
                watched.wait(size, now);
            }
            prop_assert_eq!(watched.wait(size, now), left.wait(size, now));
        }

        #[test]
        fn no_figures_overflow(config: (u64, u64, u64), wishes: Vec<(u64, u64)>) {
            let (size, burst, refill_time) = config;
            let config = TokenBucketConfig { size, one_time_burst: Some(burst), refill_time };
            let Some(mut bucket) = Bucket::new(&config, Duration::ZERO) else { return Ok(()) };
            for (tokens, second) in wishes {
                bucket.wait(tokens, Duration::from_secs(second));
                bucket.take(tokens);
                let saved = bucket.save(Duration::from_secs(second));
                bucket.restore(&saved, Duration::from_secs(second));
                bucket.restore(&SavedBucket { burst, full_in_ns: second }, Duration::ZERO);
            }
        }
    }
}
