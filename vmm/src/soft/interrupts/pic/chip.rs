//! One 8259A interrupt controller. Intel 8259A data sheet; "initialization command word" (ICW) and "operation command
//! word" (OCW) are its words.

use serde::{Deserialize, Serialize};

/// Where the chip is in its initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Expects {
    /// Initialised: data writes are the mask.
    Mask,
    /// ICW2: the first vector.
    Vector,
    /// ICW3: how the two are wired, which is known.
    Cascade,
    /// ICW4: the mode.
    Mode,
}

/// ICW1, first bit: ICW4 follows.
const NEEDS_MODE: u8 = 1;
/// Command writes: ICW1.
const INITIALISE: u8 = 1 << 4;
/// Command writes, else: OCW3.
const OCW3: u8 = 1 << 3;

/// The chip's registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chip {
    expects: Expects,
    icw1: u8,
    first_vector: u8,
    /// IRR: rises that wait, and level-triggered inputs that are high.
    requested: u8,
    in_service: u8,
    mask: u8,
    /// Inputs that are high.
    high: u8,
    /// Inputs that are level-triggered (ELCR).
    level: u8,
    /// The input of lowest priority; 7 unless rotated.
    lowest: u8,
    auto_end: bool,
    rotate_on_auto_end: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_in_service: bool,
    polled: bool,
}

impl Chip {
    /// Whether a guest can have brought it into this state.
    pub(super) fn is_possible(&self) -> bool {
        self.lowest < 8 && self.first_vector & 7 == 0
    }

    pub(super) fn new() -> Self {
        Self {
            expects: Expects::Mask,
            icw1: 0,
            first_vector: 0,
            requested: 0,
            in_service: 0,
            mask: 0xff,
            high: 0,
            level: 0,
            lowest: 7,
            auto_end: false,
            rotate_on_auto_end: false,
            special_mask: false,
            special_fully_nested: false,
            read_in_service: false,
            polled: false,
        }
    }

    /// Sets input `pin`, 0 to 7.
    pub(super) fn set_input(&mut self, pin: u8, high: bool) {
        let bit = 1 << (pin & 7);
        let rises = high && self.high & bit == 0;
        self.high = if high { self.high | bit } else { self.high & !bit };
        if self.level & bit != 0 {
            self.requested = if high { self.requested | bit } else { self.requested & !bit };
        } else if rises {
            self.requested |= bit;
        }
    }

    /// The input that interrupts: unmasked and of higher priority than all in service. On the first chip `cascade` is
    /// the input of the second.
    pub(super) fn pending(&self, cascade: Option<u8>) -> Option<u8> {
        let requested = self.first(self.requested & !self.mask)?;
        let mut in_service = self.in_service;
        if self.special_mask {
            in_service &= !self.mask;
        }
        if self.special_fully_nested
            && let Some(pin) = cascade
        {
            in_service &= !(1 << pin);
        }
        let blocked =
            self.first(in_service).is_some_and(|serving| self.distance(serving) <= self.distance(requested));
        (!blocked).then_some(requested)
    }

    /// The CPU takes input `pin`; the vector it gets. `None` is the spurious interrupt: the cause has gone.
    pub(super) fn acknowledge(&mut self, pin: Option<u8>) -> u8 {
        let Some(pin) = pin else { return self.first_vector | 7 };
        let bit = 1 << (pin & 7);
        self.requested &= !bit | self.level;
        if !self.auto_end {
            self.in_service |= bit;
        } else if self.rotate_on_auto_end {
            self.lowest = pin;
        }
        self.first_vector | pin
    }

    /// Whether a poll command waits for its read.
    pub(super) fn take_poll(&mut self) -> bool {
        std::mem::take(&mut self.polled)
    }

    /// The command port.
    pub(super) fn read_command(&self) -> u8 {
        if self.read_in_service { self.in_service } else { self.requested }
    }

    /// The data port.
    pub(super) fn read_data(&self) -> u8 {
        self.mask
    }

    /// Writes the command port.
    pub(super) fn write_command(&mut self, value: u8) {
        if value & INITIALISE != 0 {
            self.initialise(value);
        } else if value & OCW3 != 0 {
            self.polled = value & 1 << 2 != 0;
            if value & 1 << 1 != 0 {
                self.read_in_service = value & 1 != 0;
            }
            if value & 1 << 6 != 0 {
                self.special_mask = value & 1 << 5 != 0;
            }
        } else {
            self.end(value >> 5, value & 7);
        }
    }

    /// Writes the data port: the next word of the initialisation, or the mask.
    pub(super) fn write_data(&mut self, value: u8) {
        self.expects = match self.expects {
            Expects::Mask => {
                self.mask = value;
                Expects::Mask
            }
            Expects::Vector => {
                self.first_vector = value & 0xf8;
                Expects::Cascade
            }
            Expects::Cascade if self.icw1 & NEEDS_MODE != 0 => Expects::Mode,
            Expects::Cascade => Expects::Mask,
            Expects::Mode => {
                self.special_fully_nested = value & 1 << 4 != 0;
                self.auto_end = value & 1 << 1 != 0;
                Expects::Mask
            }
        };
    }

    /// The edge/level control register.
    pub(super) fn level(&self) -> u8 {
        self.level
    }

    /// Writes the edge/level control register.
    pub(super) fn set_level(&mut self, value: u8) {
        self.level = value;
        self.requested = (self.requested & !value) | (self.high & value);
    }

    fn initialise(&mut self, icw1: u8) {
        *self = Self {
            expects: Expects::Vector,
            icw1,
            first_vector: self.first_vector,
            requested: self.requested & self.level,
            mask: 0,
            high: self.high,
            level: self.level,
            ..Self::new()
        };
    }

    /// OCW2: ends interrupts and rotates priorities.
    fn end(&mut self, command: u8, pin: u8) {
        const ROTATE: u8 = 0b100;
        let ended = match command {
            0b000 | 0b100 => {
                self.rotate_on_auto_end = command & ROTATE != 0;
                return;
            }
            0b001 | 0b101 => self.first(self.in_service),
            0b011 | 0b111 => Some(pin),
            0b110 => {
                self.lowest = pin;
                return;
            }
            _ => return,
        };
        if let Some(pin) = ended {
            self.in_service &= !(1 << pin);
            if command & ROTATE != 0 {
                self.lowest = pin;
            }
        }
    }

    /// The input of highest priority in `set`.
    fn first(&self, set: u8) -> Option<u8> {
        (0..8).filter(|pin| set & 1 << pin != 0).min_by_key(|pin| self.distance(*pin))
    }

    /// How far `pin` is from the highest priority.
    fn distance(&self, pin: u8) -> u8 {
        pin.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }
}
