//! The guest's time: the host's TSC, and what the guest is told about it.

use std::time::{Duration, SystemTime};

use super::pvclock::Scale;
use crate::sys::tsc::tsc;

/// The clock of a guest, which starts with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    now: fn() -> u64,
    scale: Scale,
    start: u64,
    /// Time since 1970 at the start.
    wall_at_start: Duration,
}

impl Clock {
    /// A clock that starts now, by the host's TSC, which ticks `khz` thousand times a second.
    pub(crate) fn of_host(khz: u32) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::new(tsc, khz, wall)
    }

    /// A clock that starts now, where `now` tells the TSC.
    pub(crate) fn new(now: fn() -> u64, khz: u32, wall_at_start: Duration) -> Self {
        Self { now, scale: Scale::of_khz(khz), start: now(), wall_at_start }
    }

    /// The TSC.
    #[inline(always)]
    pub(crate) fn tsc(&self) -> u64 {
        (self.now)()
    }

    /// From ticks of the TSC to nanoseconds.
    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// The TSC at which it started.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Makes it a clock that started at that TSC, at that time of day.
    pub(crate) fn go_on_from(&mut self, start: u64, wall_at_start: Duration) {
        (self.start, self.wall_at_start) = (start, wall_at_start);
    }

    /// Nanoseconds between the start and the TSC value `at`.
    pub(crate) fn nanoseconds(&self, at: u64) -> u64 {
        self.scale.nanoseconds(at.wrapping_sub(self.start))
    }

    /// Time since 1970 when the clock started.
    pub(crate) fn wall_at_start(&self) -> Duration {
        self.wall_at_start
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(tsc, 1_000_000, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_its_start() {
        let clock = Clock::new(|| 5_000, 2_000_000, Duration::from_secs(7));
        assert_eq!((clock.tsc(), clock.wall_at_start().as_secs()), (5_000, 7));
        assert_eq!(clock.nanoseconds(5_000 + 2_000_000_000), 1_000_000_000);
    }

    #[test]
    fn the_hosts_clock_goes_on() {
        let clock = Clock::of_host(1_000_000);
        let first = clock.tsc();
        assert!(clock.tsc() > first);
    }
}
