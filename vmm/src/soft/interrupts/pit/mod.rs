//! The 8254 interval timer: channel 0 is IRQ 0, channel 2 makes the sound and, its gate and output being at port 0x61,
//! is what kernels calibrate by. Intel 8254 data sheet.

mod channel;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::frequency::TscFrequency;
use channel::{CLOCK_HZ, Channel};

const FIRST_CHANNEL: u16 = 0x40;
const LAST_CHANNEL: u16 = 0x42;
const CONTROL: u16 = 0x43;
const SPEAKER: u16 = 0x61;

/// Control port, in the place of the channel's number: read back several channels.
const READ_BACK: u8 = 3;
/// Read-back command: do not latch the count.
const NO_COUNT: u8 = 1 << 5;
/// Read-back command: do not latch the status.
const NO_STATUS: u8 = 1 << 4;

/// Port 0x61: the gate of channel 2.
const GATE: u8 = 1;
/// Port 0x61: the loudspeaker, which is not there, is connected.
const CONNECTED: u8 = 1 << 1;
/// Ticks between two changes of the memory refresh signal, about 15 µs.
const REFRESH_TICKS: u64 = 18;

/// The timer and the speaker port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pit {
    frequency: TscFrequency,
    channels: [Channel; 3],
    speaker_connected: bool,
    next_tsc: Option<u64>,
}

impl Pit {
    /// A timer that stands still. The gates of channels 0 and 1 are always high.
    pub(super) fn new(frequency: TscFrequency) -> Self {
        Self {
            frequency,
            channels: [true, true, false].map(|gate| Channel::new(frequency, gate)),
            speaker_connected: false,
            next_tsc: None,
        }
    }

    /// Whether both tell time by the same TSC.
    pub(super) fn ticks_like(&self, other: &Self) -> bool {
        let frequencies = |pit: &Self| pit.channels.each_ref().map(Channel::frequency);
        self.frequency == other.frequency && frequencies(self) == frequencies(other)
    }

    /// Whether a guest can have brought it into this state.
    pub(super) fn is_possible(&self) -> bool {
        self.channels.iter().all(Channel::is_possible)
    }

    /// The TSC at which IRQ 0 rises next.
    pub(super) fn next_tsc(&self) -> Option<u64> {
        self.next_tsc
    }

    /// Brings the timer to `tsc`; whether IRQ 0 has risen. However often it should have risen since, it rises once.
    pub(super) fn advance(&mut self, tsc: u64) -> bool {
        if self.next_tsc.is_none_or(|next| next > tsc) {
            return false;
        }
        self.next_tsc = self.channels[0].next_rise(tsc);
        true
    }

    /// Reads `port`; `None` if it is not one of its own.
    pub(super) fn read_port(&mut self, port: u16, tsc: u64) -> Option<u8> {
        Some(match port {
            FIRST_CHANNEL..=LAST_CHANNEL => {
                self.channels.get_mut(usize::from(port - FIRST_CHANNEL))?.read(tsc)
            }
            CONTROL => 0xff, // write-only
            SPEAKER => self.read_speaker(tsc),
            _ => return None,
        })
    }

    /// Writes `port`; whether it is one of its own.
    pub(super) fn write_port(&mut self, port: u16, value: u8, tsc: u64) -> bool {
        match port {
            FIRST_CHANNEL..=LAST_CHANNEL => self.write_count(port - FIRST_CHANNEL, value, tsc),
            CONTROL => self.write_control(value, tsc),
            SPEAKER => {
                self.speaker_connected = value & CONNECTED != 0;
                self.channels[2].set_gate(value & GATE != 0, tsc);
            }
            _ => return false,
        }
        true
    }

    fn write_count(&mut self, index: u16, value: u8, tsc: u64) {
        let Some(channel) = self.channels.get_mut(usize::from(index)) else { return };
        if channel.write(value, tsc) && index == 0 {
            self.next_tsc = channel.next_rise(tsc);
        }
    }

    fn write_control(&mut self, value: u8, tsc: u64) {
        let index = value >> 6;
        if index == READ_BACK {
            let chosen = (1u8..).zip(&mut self.channels).filter(|(bit, _)| value & 1 << bit != 0);
            for (_, channel) in chosen {
                if value & NO_COUNT == 0 {
                    channel.latch_count(tsc);
                }
                if value & NO_STATUS == 0 {
                    channel.latch_status(tsc);
                }
            }
        } else if let Some(channel) = self.channels.get_mut(usize::from(index)) {
            channel.write_control(value, tsc);
            if index == 0 {
                self.next_tsc = channel.next_rise(tsc);
            }
        }
    }

    fn read_speaker(&self, tsc: u64) -> u8 {
        let [_, _, channel] = &self.channels;
        let refresh_changes = self.frequency.ticks_within(tsc, CLOCK_HZ) / REFRESH_TICKS;
        u8::from(channel.gate())
            | u8::from(self.speaker_connected) << 1
            | u8::from(!refresh_changes.is_multiple_of(2)) << 4
            | u8::from(channel.output(tsc)) << 5
    }
}
