//! An entry of the guest's interrupt descriptor table.

/// An interrupt or trap gate of 64-bit mode (Intel SDM volume 3A, figure 6-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    /// Address of the handler.
    pub(super) handler: u64,
    /// Code segment of the handler.
    pub(super) selector: u16,
    /// Whether the gate may be used at all.
    pub(super) is_present: bool,
    /// Least privileged level whose code may call it with an instruction.
    pub(super) level: u8,
}

impl Gate {
    /// Length of a gate in bytes.
    pub(super) const LEN: usize = 16;

    /// Where the gate of `vector` is in the table.
    pub(super) const fn offset(vector: u64) -> u64 {
        vector * Self::LEN as u64
    }

    /// Reads a gate.
    pub(super) fn parse(gate: [u8; Self::LEN]) -> Self {
        let [a, b, s0, s1, _, access, c, d, e, f, g, h, ..] = gate;
        Self {
            handler: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            selector: u16::from_le_bytes([s0, s1]),
            is_present: access & 0x80 != 0,
            level: access >> 5 & 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_read_as_the_manual_says() {
        let gate = [0x10, 0x0b, 0x10, 0, 0, 0x8e, 0x80, 0x81, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let expected = Gate { handler: 0xffff_ffff_8180_0b10, selector: 0x10, is_present: true, level: 0 };
        assert_eq!(Gate::parse(gate), expected);
        let for_programs = [0x10, 0x0b, 0x10, 0, 0, 0xee, 0x80, 0x81, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(Gate::parse(for_programs), Gate { level: 3, ..expected });
        assert!(!Gate::parse([0; Gate::LEN]).is_present);
    }
}
