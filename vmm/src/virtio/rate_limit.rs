//! Rate limits of a device: bytes and operations per time, each a token bucket, and a timer that wakes a queue that had
//! to wait.
//!
//! A device asks [`RateLimiter::admit`] before it serves a request. If the answer is no it puts the chain back and stops;
//! the limiter's timer then fires once there are tokens again, and the device calls [`RateLimiter::on_timer`] and
//! serves its queues. `bucket.rs` is the arithmetic.

mod bucket;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use event_manager::EventSet;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};

pub use bucket::{SavedBucket, TokenBucketConfig};

use crate::virtio::device::Watch;
use bucket::Bucket;

/// A queue waits at least this long, so that a limit on small requests does not wake the event loop for each of them. An
/// empty bucket takes no less time to fill, so no tokens are lost by it.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The limits of a device, or changes to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimiterConfig {
    /// Bytes; `None` is no limit, or no change of it.
    #[serde(default)]
    pub bandwidth: Option<TokenBucketConfig>,
    /// Requests; `None` is no limit, or no change of it.
    #[serde(default)]
    pub ops: Option<TokenBucketConfig>,
}

impl RateLimiterConfig {
    /// These limits with the changes that [`RateLimiter::update`] makes.
    #[must_use]
    pub fn changed_by(&self, changes: &Self) -> Self {
        Self { bandwidth: changes.bandwidth.or(self.bandwidth), ops: changes.ops.or(self.ops) }
    }
}

/// What has been used of a device's limits, as a snapshot keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLimits {
    bandwidth: Option<SavedBucket>,
    ops: Option<SavedBucket>,
}

/// The limits of one direction of a device.
#[derive(Debug, Default)]
pub struct RateLimiter {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
    timer: Option<OwnedFd>,
    /// The event loop has been told of the timer.
    watched: bool,
    /// The timer is set, and nothing is admitted until it fires.
    waiting: bool,
}

impl RateLimiter {
    /// A limiter with full buckets. Without limits it has no timer and admits everything.
    ///
    /// # Errors
    ///
    /// The host gives no timer.
    pub fn new(config: &RateLimiterConfig) -> io::Result<Self> {
        let mut limiter = Self::default();
        limiter.update(config)?;
        Ok(limiter)
    }

    /// Replaces the buckets that `config` names, by full ones; a bucket of size or refill time zero is no limit any
    /// more. Queues that are waiting may go on: the device serves them after this.
    ///
    /// # Errors
    ///
    /// The host gives no timer; nothing has changed then.
    pub fn update(&mut self, config: &RateLimiterConfig) -> io::Result<()> {
        let new =
            |bucket: &Option<TokenBucketConfig>| bucket.as_ref().map(|bucket| Bucket::new(bucket, now()));
        let (bandwidth, ops) = (new(&config.bandwidth), new(&config.ops));
        let limited = [bandwidth, ops].into_iter().flatten().any(|bucket| bucket.is_some());
        if limited && self.timer.is_none() {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            self.timer = Some(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        }
        self.bandwidth = bandwidth.unwrap_or(self.bandwidth);
        self.ops = ops.unwrap_or(self.ops);
        self.waiting = false;
        Ok(())
    }

    /// What has been used of the limits.
    pub fn save(&self) -> SavedLimits {
        let save = |bucket: Option<Bucket>| bucket.map(|bucket| bucket.save(now()));
        SavedLimits { bandwidth: save(self.bandwidth), ops: save(self.ops) }
    }

    /// Has as much be used of the limits as when they were saved. Wake the queues after this.
    pub fn restore(&mut self, saved: &SavedLimits) {
        let buckets = [(&mut self.bandwidth, &saved.bandwidth), (&mut self.ops, &saved.ops)];
        for (bucket, saved) in buckets {
            if let (Some(bucket), Some(saved)) = (bucket, saved) {
                bucket.restore(saved, now());
            }
        }
    }

    /// Whether a request that moves `bytes` may be served now; it is counted if so. If not, the timer fires when it may.
    pub fn admit(&mut self, bytes: u64) -> bool {
        let admitted = self.may_admit(bytes);
        if admitted {
            self.charge(bytes);
        }
        admitted
    }

    /// Whether a request that moves at least `bytes` may be served now. It is not counted: [`Self::charge`] it when its
    /// length is known. If not, the timer fires when it may.
    pub fn may_admit(&mut self, bytes: u64) -> bool {
        if self.waiting {
            return false;
        }
        if self.bandwidth.is_none() && self.ops.is_none() {
            return true;
        }
        let wait = self.wait_at(bytes, now());
        if wait > Duration::ZERO {
            self.waiting = self.set_timer(wait.max(SHORTEST_WAIT));
        }
        // A limit that cannot be timed is no reason to stop a device for good.
        !self.waiting
    }

    /// Counts a request that was let through. What it moves beyond the limit is waited for by the next.
    pub fn charge(&mut self, bytes: u64) {
        let buckets = [(&mut self.bandwidth, bytes), (&mut self.ops, 1)];
        for (bucket, tokens) in buckets {
            if let Some(bucket) = bucket {
                bucket.take(tokens);
            }
        }
    }

    /// How long a request has to wait; zero if there are tokens for it.
    fn wait_at(&mut self, bytes: u64, now: Duration) -> Duration {
        let buckets = [(&mut self.bandwidth, bytes), (&mut self.ops, 1)];
        let waits =
            buckets.into_iter().filter_map(|(bucket, tokens)| Some(bucket.as_mut()?.wait(tokens, now)));
        waits.max().unwrap_or_default()
    }

    /// The wish to be told when the timer fires, with `token`, if the event loop does not have it yet. Ask from
    /// [`crate::virtio::EventHandler::take_watches`].
    pub fn take_watch(&mut self, token: u32) -> Option<Watch> {
        let timer = self.timer.as_ref().filter(|_| !self.watched)?;
        self.watched = true;
        Some(Watch::Add { fd: timer.as_raw_fd(), token, events: EventSet::IN })
    }

    /// The timer has fired: requests may be admitted again.
    pub fn on_timer(&mut self) {
        if let Some(timer) = &self.timer {
            // It may have been set anew since the event; then there is nothing to read and it fires again.
            let fired = rustix::io::read(timer, &mut [0; 8]).is_ok();
            self.waiting &= !fired;
        }
    }

    fn set_timer(&self, wait: Duration) -> bool {
        let value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let setting = Itimerspec { it_interval: Timespec::default(), it_value: value };
        let set =
            self.timer.as_ref().map(|timer| timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting));
        match set {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                tracing::error!(%error, "cannot set the timer of a rate limit");
                false
            }
            None => false,
        }
    }
}

/// The host's monotonic clock.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bandwidth: Option<(u64, u64)>, ops: Option<(u64, u64)>) -> RateLimiterConfig {
        let bucket = |(size, refill_time)| TokenBucketConfig { size, one_time_burst: None, refill_time };
        RateLimiterConfig { bandwidth: bandwidth.map(bucket), ops: ops.map(bucket) }
    }

    /// Waits for the timer.
    fn fires(limiter: &RateLimiter, timeout_ms: i64) -> bool {
        let timer = limiter.timer.as_ref().unwrap();
        let mut fds = [rustix::event::PollFd::new(timer, rustix::event::PollFlags::IN)];
        let timeout = Timespec { tv_sec: timeout_ms / 1000, tv_nsec: timeout_ms % 1000 * 1_000_000 };
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn without_limits_everything_goes_through_and_no_timer_is_made() {
        let mut limiter = RateLimiter::new(&limits(None, Some((0, 5)))).unwrap();
        assert!((0..1000).all(|_| limiter.admit(u64::MAX)));
        assert!(limiter.timer.is_none() && limiter.take_watch(1).is_none());
    }

    #[test]
    fn both_limits_hold_and_a_refused_request_costs_nothing() {
        let mut limiter = RateLimiter::new(&limits(Some((1000, 1000)), Some((2, 1000)))).unwrap();
        let start = now();
        let mut admit = |bytes| {
            let wait = limiter.wait_at(bytes, start);
            if wait.is_zero() {
                limiter.charge(bytes);
            }
            wait
        };
        assert_eq!(admit(900), Duration::ZERO);
        // Not enough bytes: the operation is not counted either.
        assert!(admit(900) > Duration::from_millis(700));
        assert_eq!(admit(50), Duration::ZERO);
        // Bytes enough, and no operation left.
        assert!(admit(10) > Duration::from_millis(400));
    }

    #[test]
    fn a_request_whose_length_shows_late_is_paid_for_by_the_next() {
        let mut limiter = RateLimiter::new(&limits(Some((100, 100)), None)).unwrap();
        assert!(limiter.may_admit(0));
        limiter.charge(105);
        assert!(!limiter.may_admit(0));
        assert!(fires(&limiter, 10_000));
        limiter.on_timer();
        assert!(limiter.may_admit(0));
    }

    #[test]
    fn a_queue_that_waits_is_woken_and_then_served() {
        let mut limiter = RateLimiter::new(&limits(Some((100, 50)), None)).unwrap();
        assert!(matches!(limiter.take_watch(7), Some(Watch::Add { token: 7, .. })));
        assert!(limiter.take_watch(7).is_none());
        assert!(limiter.admit(100) && !limiter.admit(100));
        // Nothing overtakes the request that waits, not even an empty one.
        assert!(!limiter.admit(0) && !fires(&limiter, 0));
        limiter.on_timer();
        assert!(!limiter.admit(100), "an event that came too early changes nothing");
        assert!(fires(&limiter, 10_000));
        limiter.on_timer();
        assert!(limiter.admit(100));
    }

    #[test]
    fn limits_change_at_run_time_each_by_itself() {
        let mut limiter = RateLimiter::new(&limits(Some((1, 3_600_000)), Some((1, 3_600_000)))).unwrap();
        assert!(limiter.admit(1) && !limiter.admit(1));
        limiter.update(&limits(Some((0, 0)), None)).unwrap();
        assert!(!limiter.admit(1), "operations are limited as before");
        limiter.update(&limits(None, Some((5, 3_600_000)))).unwrap();
        assert!((0..5).all(|_| limiter.admit(1 << 40)) && !limiter.admit(1));
        limiter.update(&limits(None, Some((0, 0)))).unwrap();
        assert!((0..100).all(|_| limiter.admit(1)));
    }

    #[test]
    fn is_read_in_firecrackers_form() {
        let text = r#"{"bandwidth": {"size": 1000, "one_time_burst": 50, "refill_time": 100}}"#;
        let wanted = TokenBucketConfig { size: 1000, one_time_burst: Some(50), refill_time: 100 };
        let config: RateLimiterConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, RateLimiterConfig { bandwidth: Some(wanted), ops: None });
        assert!(serde_json::from_str::<RateLimiterConfig>(r#"{"bytes": {}}"#).is_err());
    }
}
