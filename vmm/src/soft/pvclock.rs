//! What a guest's memory holds about time for KVM's paravirtual clock (Linux, Documentation/virt/kvm/x86/msr.rst).

use std::time::Duration;

use super::clock::Clock;

const NANOSECONDS: u64 = 1_000_000_000;
/// Flag of the structure: time is the same on all CPUs and never goes backwards.
const TSC_STABLE: u8 = 1;
/// An even version says that the structure is complete.
const VERSION_STEP: u32 = 2;

/// From ticks to nanoseconds: shift by `shift`, then multiply by `multiplier / 2^32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    multiplier: u32,
    shift: i8,
}

impl Scale {
    /// The scale of a TSC that ticks `khz` thousand times a second. A TSC that stands still counts as one of 1 kHz.
    pub(crate) fn of_khz(khz: u32) -> Self {
        let mut hertz = u64::from(khz.max(1)) * 1000;
        let mut shift = 0;
        // Brings the frequency into (10⁹, 2·10⁹]; the factor is then at least one half and below one.
        while hertz > 2 * NANOSECONDS {
            hertz >>= 1;
            shift -= 1;
        }
        while hertz <= NANOSECONDS {
            hertz <<= 1;
            shift += 1;
        }
        let multiplier = u32::try_from((NANOSECONDS << 32) / hertz).unwrap_or(u32::MAX);
        Self { multiplier, shift }
    }

    /// What the guest computes from `ticks`.
    pub(crate) fn nanoseconds(self, ticks: u64) -> u64 {
        let shift = u32::from(self.shift.unsigned_abs());
        let ticks = if self.shift < 0 { ticks >> shift } else { ticks << shift };
        u64::try_from((u128::from(ticks) * u128::from(self.multiplier)) >> 32).unwrap_or(u64::MAX)
    }
}

/// The 32 bytes of `pvclock_vcpu_time_info` for now. Follows on `version`.
pub(crate) fn time_info(clock: &Clock, version: &mut u32) -> [u8; 32] {
    *version = version.wrapping_add(VERSION_STEP);
    let tsc = clock.tsc();
    let scale = clock.scale();
    let mut bytes = [0; 32];
    bytes[0..4].copy_from_slice(&version.to_le_bytes());
    bytes[8..16].copy_from_slice(&tsc.to_le_bytes());
    bytes[16..24].copy_from_slice(&clock.nanoseconds(tsc).to_le_bytes());
    bytes[24..28].copy_from_slice(&scale.multiplier.to_le_bytes());
    bytes[28] = scale.shift.cast_unsigned();
    bytes[29] = TSC_STABLE;
    bytes
}

/// The 12 bytes of `pvclock_wall_clock`: when the guest's clock started. Follows on `version`.
pub(crate) fn wall_clock(start: Duration, version: &mut u32) -> [u8; 12] {
    *version = version.wrapping_add(VERSION_STEP);
    let seconds = u32::try_from(start.as_secs()).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[0..4].copy_from_slice(&version.to_le_bytes());
    bytes[4..8].copy_from_slice(&seconds.to_le_bytes());
    bytes[8..12].copy_from_slice(&start.subsec_nanos().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_at_any_frequency() {
        for khz in
            [1, 1_000, 999_999, 1_000_000, 1_000_001, 1_999_999, 2_000_000, 2_445_432, 5_100_000, u32::MAX]
        {
            let ticks = u64::from(khz) * 1000 * 10;
            let error = Scale::of_khz(khz).nanoseconds(ticks).abs_diff(10 * NANOSECONDS);
            assert!(error <= 20, "{khz} kHz: off by {error} ns in 10 s");
        }
    }

    #[test]
    fn a_stopped_tsc_has_a_scale_too() {
        assert_eq!(Scale::of_khz(0), Scale::of_khz(1));
    }

    #[test]
    fn the_structures_are_laid_out_as_linux_reads_them() {
        let clock = Clock::new(|| 0x1122, 2_000_000, Duration::ZERO);
        let mut version = 0;
        let bytes = time_info(&clock, &mut version);
        assert_eq!((version, bytes[0], bytes[4..8] == [0; 4]), (2, 2, true));
        assert_eq!(&bytes[8..10], &[0x22, 0x11]);
        assert_eq!(&bytes[24..30], &[0, 0, 0, 0x80, 0, 1], "half a nanosecond for each tick, stable");
        let wall = wall_clock(Duration::new(0x6543_2100, 5), &mut version);
        assert_eq!(wall, [4, 0, 0, 0, 0, 0x21, 0x43, 0x65, 5, 0, 0, 0]);
    }
}
