//! The local APIC's timer. Intel SDM volume 3A, section 11.5.4.
//!
//! ```text
//!   one-shot      initial count ──counts down──► 0, fires, stops
//!   periodic      initial count ──counts down──► 0, fires, starts over
//!   TSC-deadline  fires when the TSC reaches the deadline, which then reads as 0
//! ```
//!
//! Nothing counts here: the timer knows when it was started and computes what is asked from the TSC that the caller
//! passes.

use serde::{Deserialize, Serialize};

use super::frequency::TscFrequency;

/// The clock that the count and the divider divide: 1 GHz, as KVM has it.
const CLOCK_HZ: u32 = 1_000_000_000;
/// The shortest period, in ticks of that clock (200 µs, as in KVM): shorter ones would leave the guest no time.
const MIN_PERIOD: u64 = 200_000;

/// How the timer counts: bits 18:17 of its entry in the local vector table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
    /// The fourth value means nothing: such a timer stands still.
    Reserved,
}

impl TimerMode {
    /// The mode that an entry of the local vector table names.
    pub(super) fn of(entry: u32) -> Self {
        match entry >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// The timer's registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ApicTimer {
    frequency: TscFrequency,
    mode: TimerMode,
    divide_configuration: u32,
    initial_count: u32,
    /// The TSC from which on it counts, and how many ticks of the undivided clock it had counted by then: none, unless
    /// the divider has changed since.
    started_tsc: u64,
    counted_before: u64,
    /// The TSC at which it fires next, whatever the mode; `None` while it is stopped.
    next_tsc: Option<u64>,
}

impl ApicTimer {
    /// A timer as after reset: one-shot, stopped.
    pub(super) fn new(frequency: TscFrequency) -> Self {
        Self {
            frequency,
            mode: TimerMode::OneShot,
            divide_configuration: 0,
            initial_count: 0,
            started_tsc: 0,
            counted_before: 0,
            next_tsc: None,
        }
    }

    /// Whether both tell time by the same TSC.
    pub(super) fn ticks_like(&self, other: &Self) -> bool {
        self.frequency == other.frequency
    }

    /// The TSC at which it fires next.
    pub(super) fn next_tsc(&self) -> Option<u64> {
        self.next_tsc
    }

    /// Brings the timer to `tsc`; whether it has fired. However often it should have fired since, it fires once.
    pub(super) fn advance(&mut self, tsc: u64) -> bool {
        if self.next_tsc.is_none_or(|next| next > tsc) {
            return false;
        }
        self.next_tsc = (self.mode == TimerMode::Periodic).then(|| self.next_period(tsc));
        true
    }

    /// Changes the mode. Entering or leaving TSC-deadline mode stops the timer.
    pub(super) fn set_mode(&mut self, mode: TimerMode) {
        if self.mode != mode && !(self.mode.counts() && mode.counts()) {
            self.initial_count = 0;
            self.next_tsc = None;
        }
        self.mode = mode;
    }

    /// The initial-count register.
    pub(super) fn initial_count(&self) -> u32 {
        self.initial_count
    }

    /// Starts to count down from `count`, or stops if it is 0. Ignored where nothing counts.
    pub(super) fn set_initial_count(&mut self, count: u32, tsc: u64) {
        if !self.mode.counts() {
            return;
        }
        self.initial_count = count;
        self.started_tsc = tsc;
        self.counted_before = 0;
        self.schedule(tsc);
    }

    /// The current-count register.
    pub(super) fn current_count(&self, tsc: u64) -> u32 {
        let initial = u64::from(self.initial_count);
        if self.next_tsc.is_none() || initial == 0 {
            return 0;
        }
        let counted = self.elapsed(tsc) / self.divisor();
        let left = match self.mode {
            TimerMode::Periodic => initial - counted % initial,
            _ => initial.saturating_sub(counted),
        };
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// The divide-configuration register.
    pub(super) fn divide_configuration(&self) -> u32 {
        self.divide_configuration
    }

    /// Changes the divider; a running count goes on from where it is.
    pub(super) fn set_divide_configuration(&mut self, value: u32, tsc: u64) {
        let left = self.current_count(tsc);
        self.divide_configuration = value & 0b1011;
        if self.mode.counts() && self.next_tsc.is_some() {
            self.started_tsc = tsc;
            self.counted_before = u64::from(self.initial_count.saturating_sub(left)) * self.divisor();
            self.schedule(tsc);
        }
    }

    /// IA32_TSC_DEADLINE: 0 while none is armed.
    pub(super) fn deadline(&self) -> u64 {
        if self.mode == TimerMode::TscDeadline { self.next_tsc.unwrap_or(0) } else { 0 }
    }

    /// Arms the deadline `value`, or disarms it if it is 0. Ignored in other modes.
    pub(super) fn set_deadline(&mut self, value: u64) {
        if self.mode == TimerMode::TscDeadline {
            self.next_tsc = (value != 0).then_some(value);
        }
    }

    /// What the clock is divided by: bits 3, 1 and 0 of the register are a power of two less one.
    fn divisor(&self) -> u64 {
        let bits = (self.divide_configuration & 0b11) | (self.divide_configuration >> 1 & 0b100);
        1 << ((bits + 1) & 0b111)
    }

    /// Ticks of the undivided clock that have been counted at `tsc`.
    fn elapsed(&self, tsc: u64) -> u64 {
        let since = self.frequency.ticks_within(tsc.saturating_sub(self.started_tsc), CLOCK_HZ);
        since.saturating_add(self.counted_before)
    }

    fn schedule(&mut self, tsc: u64) {
        self.next_tsc = match (self.initial_count, self.mode) {
            (0, _) => None,
            (_, TimerMode::Periodic) => Some(self.next_period(tsc)),
            (count, _) => Some(self.tsc_at(u64::from(count) * self.divisor())),
        };
    }

    /// The end of the period that `tsc` is in. Counted from the start each time, so that nothing drifts.
    fn next_period(&self, tsc: u64) -> u64 {
        let period = (u64::from(self.initial_count) * self.divisor()).max(MIN_PERIOD);
        self.tsc_at((self.elapsed(tsc) / period).saturating_add(1).saturating_mul(period))
    }

    fn tsc_at(&self, elapsed: u64) -> u64 {
        let ticks = elapsed.saturating_sub(self.counted_before);
        self.started_tsc.saturating_add(self.frequency.tsc_after(ticks, CLOCK_HZ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 GHz: two TSC ticks are one tick of the timer.
    fn timer(mode: TimerMode) -> ApicTimer {
        let mut timer = ApicTimer::new(TscFrequency::from_khz(2_000_000));
        timer.set_mode(mode);
        timer.set_divide_configuration(0b1011, 0); // by 1
        timer
    }

    #[test]
    fn one_shot_counts_down_fires_once_and_stops() {
        let mut timer = timer(TimerMode::OneShot);
        timer.set_initial_count(1000, 50);
        assert_eq!(timer.next_tsc(), Some(2050));
        assert_eq!([50, 52, 1050, 2049].map(|tsc| timer.current_count(tsc)), [1000, 999, 500, 1]);
        assert!(!timer.advance(2049));
        assert!(timer.advance(2050));
        assert!(!timer.advance(9999));
        assert_eq!((timer.current_count(9999), timer.next_tsc(), timer.initial_count()), (0, None, 1000));
    }

    #[test]
    fn the_divider_is_a_power_of_two() {
        for (register, divisor) in [
            (0b0000, 2),
            (0b0001, 4),
            (0b0010, 8),
            (0b0011, 16),
            (0b1000, 32),
            (0b1001, 64),
            (0b1010, 128),
            (0b1011, 1),
            (0xffff_fff4, 2),
        ] {
            let mut timer = timer(TimerMode::OneShot);
            timer.set_divide_configuration(register, 0);
            timer.set_initial_count(100, 0);
            assert_eq!(timer.next_tsc(), Some(200 * divisor), "register {register:#b}");
        }
    }

    #[test]
    fn a_new_divider_goes_on_from_the_current_count() {
        for mode in [TimerMode::OneShot, TimerMode::Periodic] {
            let mut timer = timer(mode);
            timer.set_initial_count(1_000_000, 0);
            timer.set_divide_configuration(0b0000, 1_000_000); // half way, by 2 from here
            assert_eq!(timer.current_count(1_000_000), 500_000, "{mode:?}");
            assert_eq!(timer.current_count(2_000_000), 250_000, "{mode:?}");
            assert_eq!(timer.next_tsc(), Some(3_000_000), "{mode:?}");
        }
    }

    #[test]
    fn periodic_fires_each_period_and_catches_up_with_one_interrupt() {
        let mut timer = timer(TimerMode::Periodic);
        timer.set_initial_count(1_000_000, 100);
        assert!(timer.advance(2_000_100));
        assert_eq!(timer.next_tsc(), Some(4_000_100));
        assert_eq!(timer.current_count(2_000_300), 999_900);
        // Seven periods late: one interrupt, and the next at the end of the period that runs.
        assert!(timer.advance(16_500_000));
        assert!(!timer.advance(16_500_000));
        assert_eq!(timer.next_tsc(), Some(18_000_100));
    }

    #[test]
    fn a_period_of_nothing_leaves_the_guest_time() {
        let mut timer = timer(TimerMode::Periodic);
        timer.set_initial_count(1, 0);
        assert_eq!(timer.next_tsc(), Some(400_000));
        assert!(timer.advance(400_000));
        assert_eq!(timer.next_tsc(), Some(800_000));
    }

    #[test]
    fn a_deadline_fires_once_and_reads_as_zero_then() {
        let mut timer = timer(TimerMode::TscDeadline);
        timer.set_deadline(500);
        assert_eq!((timer.deadline(), timer.advance(499)), (500, false));
        assert!(timer.advance(500));
        assert_eq!((timer.deadline(), timer.next_tsc(), timer.advance(501)), (0, None, false));
        timer.set_deadline(600);
        timer.set_deadline(0);
        assert_eq!(timer.next_tsc(), None);
    }

    #[test]
    fn each_mode_ignores_the_registers_of_the_others() {
        let mut deadline = timer(TimerMode::TscDeadline);
        deadline.set_initial_count(5, 0);
        assert_eq!((deadline.initial_count(), deadline.next_tsc()), (0, None));
        let mut one_shot = timer(TimerMode::OneShot);
        one_shot.set_deadline(5);
        assert_eq!((one_shot.deadline(), one_shot.next_tsc()), (0, None));
    }

    #[test]
    fn entering_or_leaving_deadline_mode_disarms() {
        let mut timer = timer(TimerMode::OneShot);
        timer.set_initial_count(1000, 0);
        timer.set_mode(TimerMode::Periodic);
        assert_eq!(timer.next_tsc(), Some(2000), "between counting modes the count goes on");
        timer.set_mode(TimerMode::TscDeadline);
        assert_eq!((timer.next_tsc(), timer.initial_count()), (None, 0));
        timer.set_deadline(1000);
        timer.set_mode(TimerMode::TscDeadline);
        assert_eq!(timer.next_tsc(), Some(1000), "the same mode again changes nothing");
        timer.set_mode(TimerMode::OneShot);
        assert_eq!(timer.next_tsc(), None);
        timer.set_mode(TimerMode::Reserved);
        timer.set_initial_count(5, 0);
        timer.set_deadline(5);
        assert_eq!(timer.next_tsc(), None);
    }
}
