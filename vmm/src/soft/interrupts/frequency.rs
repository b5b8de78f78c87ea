//! How fast the TSC runs, and so how other clocks convert to it.

use serde::{Deserialize, Serialize};

/// The TSC's frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TscFrequency {
    hz: u128,
}

impl TscFrequency {
    /// A TSC that ticks `khz` thousand times a second.
    pub(super) fn from_khz(khz: u64) -> Self {
        Self { hz: u128::from(khz.max(1)) * 1000 }
    }

    /// Whole ticks that a clock of `clock_hz` makes within `tsc` ticks of the TSC.
    pub(super) fn ticks_within(self, tsc: u64, clock_hz: u32) -> u64 {
        saturate(u128::from(tsc) * u128::from(clock_hz) / self.hz)
    }

    /// The TSC ticks after which a clock of `clock_hz` has made `ticks` of its own.
    pub(super) fn tsc_after(self, ticks: u64, clock_hz: u32) -> u64 {
        saturate(u128::from(ticks).saturating_mul(self.hz).div_ceil(u128::from(clock_hz.max(1))))
    }
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_passed_exactly_from_its_tsc_on() {
        for khz in [1, 999, 2_000_000, 3_123_457] {
            let frequency = TscFrequency::from_khz(khz);
            for clock_hz in [1_193_182, 1_000_000_000] {
                for ticks in [1, 2, 3, 1000, 65536, 1 << 39] {
                    let tsc = frequency.tsc_after(ticks, clock_hz);
                    assert!(frequency.ticks_within(tsc, clock_hz) >= ticks);
                    assert!(frequency.ticks_within(tsc - 1, clock_hz) < ticks);
                }
            }
        }
    }

    #[test]
    fn absurd_values_saturate() {
        let slow = TscFrequency::from_khz(0);
        assert_eq!(slow.ticks_within(u64::MAX, u32::MAX), u64::MAX);
        assert_eq!(TscFrequency::from_khz(u64::MAX).tsc_after(u64::MAX, 0), u64::MAX);
    }
}
