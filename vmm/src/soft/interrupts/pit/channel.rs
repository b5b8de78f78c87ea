//! One of the 8254's three counters. Intel 8254 data sheet. Binary counting only: nobody counts in decimal.
//!
//! A counter does not count here: it knows the TSC at which it was loaded and computes what is asked.

use serde::{Deserialize, Serialize};

use super::super::frequency::TscFrequency;

/// The PIT's clock in Hz.
pub(super) const CLOCK_HZ: u32 = 1_193_182;
/// The shortest period of channel 0 in ticks (200 µs, as in KVM): shorter ones would leave the guest no time.
const MIN_PERIOD: u64 = 239;

/// What a counter does with its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    /// 0: low, rises at the end.
    TerminalCount,
    /// 1: low from a rise of the gate to the end.
    OneShot,
    /// 2: low for one tick at the end of each period.
    RateGenerator,
    /// 3: high for half a period, low for the other half.
    SquareWave,
    /// 4: low for one tick at the end.
    SoftwareStrobe,
    /// 5: low for one tick, a count after a rise of the gate.
    HardwareStrobe,
}

impl Mode {
    fn of(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::TerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// The gate starts it rather than enables it.
    fn gate_starts(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Which bytes of a count go through the port: bits 5:4 of a control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// The passing of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Counting {
    /// No count has been written since the control word, or the gate has not started it.
    Waiting,
    /// Since this TSC, when so many ticks had been counted.
    Since(u64, u64),
    /// Held by the gate after so many ticks.
    Held(u64),
}

/// The counter's registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Channel {
    frequency: TscFrequency,
    /// The control word as written, but for the channel's number.
    control: u8,
    mode: Mode,
    access: Access,
    /// 1 to 65536.
    count: u32,
    counting: Counting,
    gate: bool,
    /// The low byte of a count whose high byte is still to come.
    half_written: Option<u8>,
    /// The next read of a count, if it goes through in two halves, is of the high byte.
    half_read: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    /// A counter that waits for its control word; `gate` as its pin is.
    pub(super) fn new(frequency: TscFrequency, gate: bool) -> Self {
        Self {
            frequency,
            control: 0x36,
            mode: Mode::SquareWave,
            access: Access::LowThenHigh,
            count: 0x1_0000,
            counting: Counting::Waiting,
            gate,
            half_written: None,
            half_read: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// Takes a control word: latches the count, or sets the mode and waits for a count.
    pub(super) fn write_control(&mut self, control: u8, tsc: u64) {
        self.access = match control >> 4 & 3 {
            0 => {
                self.latch_count(tsc);
                return;
            }
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        *self = Self {
            control: control & 0x3f,
            mode: Mode::of(control),
            access: self.access,
            ..Self::new(self.frequency, self.gate)
        };
    }

    /// The TSC's frequency.
    pub(super) fn frequency(&self) -> TscFrequency {
        self.frequency
    }

    /// Whether a guest can have brought it into this state.
    pub(super) fn is_possible(&self) -> bool {
        (1..=0x1_0000).contains(&self.count)
    }

    /// Keeps the count as it is for the next read.
    pub(super) fn latch_count(&mut self, tsc: u64) {
        self.latched_count.get_or_insert(self.current(tsc));
    }

    /// Keeps the status for the next read.
    pub(super) fn latch_status(&mut self, tsc: u64) {
        let output = u8::from(self.output(tsc)) << 7;
        let no_count = u8::from(self.counting == Counting::Waiting) << 6;
        self.latched_status.get_or_insert(output | no_count | self.control);
    }

    /// Reads the data port.
    pub(super) fn read(&mut self, tsc: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.current(tsc)).to_le_bytes();
        let (value, complete) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::LowThenHigh if self.half_read => (high, true),
            Access::LowThenHigh => (low, false),
        };
        self.half_read = !complete;
        if complete {
            self.latched_count = None;
        }
        value
    }

    /// Writes the data port; whether the counter has been loaded by it.
    pub(super) fn write(&mut self, value: u8, tsc: u64) -> bool {
        let count = match (self.access, self.half_written.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
            (Access::LowThenHigh, None) => {
                self.half_written = Some(value);
                return false;
            }
        };
        self.count = if count == 0 { 0x1_0000 } else { count.into() };
        self.counting = match (self.mode.gate_starts(), self.gate) {
            (true, _) => self.counting,
            (false, true) => Counting::Since(tsc, 0),
            (false, false) => Counting::Held(0),
        };
        true
    }

    /// The gate as it is.
    pub(super) fn gate(&self) -> bool {
        self.gate
    }

    /// Sets the gate.
    pub(super) fn set_gate(&mut self, gate: bool, tsc: u64) {
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        self.gate = gate;
        self.counting = match self.counting {
            Counting::Waiting | Counting::Since(..) if rises && self.mode.gate_starts() => {
                Counting::Since(tsc, 0)
            }
            Counting::Since(..) if falls && !self.mode.gate_starts() => Counting::Held(self.ticks(tsc)),
            Counting::Held(_) if rises && self.mode.periodic() => Counting::Since(tsc, 0),
            Counting::Held(ticks) if rises => Counting::Since(tsc, ticks),
            unchanged => unchanged,
        };
    }

    /// The output pin.
    pub(super) fn output(&self, tsc: u64) -> bool {
        let count = u64::from(self.count);
        let ticks = self.ticks(tsc);
        match (self.mode, self.counting) {
            (Mode::TerminalCount, Counting::Waiting) => false,
            (_, Counting::Waiting) => true,
            (Mode::TerminalCount | Mode::OneShot, _) => ticks >= count,
            (Mode::RateGenerator, _) => ticks % count != count - 1,
            (Mode::SquareWave, _) => ticks % count < count.div_ceil(2),
            (Mode::SoftwareStrobe | Mode::HardwareStrobe, _) => ticks != count,
        }
    }

    /// The TSC after `tsc` at which the output rises next, if ever.
    pub(super) fn next_rise(&self, tsc: u64) -> Option<u64> {
        let Counting::Since(since, before) = self.counting else { return None };
        let count = u64::from(self.count);
        let ticks = match self.mode {
            mode if mode.periodic() => {
                let period = count.max(MIN_PERIOD);
                (self.ticks(tsc) / period).saturating_add(1).saturating_mul(period)
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => count + 1,
            _ => count,
        };
        let rise = since.saturating_add(self.frequency.tsc_after(ticks.saturating_sub(before), CLOCK_HZ));
        (rise > tsc).then_some(rise)
    }

    /// Ticks since the counter was loaded or started.
    fn ticks(&self, tsc: u64) -> u64 {
        match self.counting {
            Counting::Waiting => 0,
            Counting::Since(since, before) => {
                before.saturating_add(self.frequency.ticks_within(tsc.saturating_sub(since), CLOCK_HZ))
            }
            Counting::Held(ticks) => ticks,
        }
    }

    /// The count as it stands; a count of 65536 reads as 0.
    fn current(&self, tsc: u64) -> u16 {
        let count = u64::from(self.count);
        let ticks = self.ticks(tsc);
        let left = match self.mode {
            Mode::RateGenerator => count - ticks % count,
            Mode::SquareWave => (count - (2 * (ticks % count)) % count) & !1,
            _ => count.wrapping_sub(ticks),
        };
        let [low, high, ..] = left.to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}
