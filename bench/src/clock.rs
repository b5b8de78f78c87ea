//! The one clock of the harness: the host's monotonic clock, the same that the binary stamps its events with.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("the monotonic clock is positive");
    let nanoseconds = u64::try_from(now.tv_nsec).expect("nanoseconds are positive");
    seconds * 1_000_000_000 + nanoseconds
}

/// Milliseconds between two instants in nanoseconds; negative when `to` is before `from`.
pub(crate) fn ms_between(from_ns: u64, to_ns: u64) -> f64 {
    if to_ns >= from_ns { (to_ns - from_ns) as f64 / 1e6 } else { -((from_ns - to_ns) as f64 / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_forward() {
        let first = now_ns();
        assert!(now_ns() >= first);
    }

    #[test]
    fn spans_have_a_sign() {
        assert_eq!(ms_between(1_000_000, 3_500_000), 2.5);
        assert_eq!(ms_between(3_500_000, 1_000_000), -2.5);
    }
}
