//! What the CPU pushes on the stack of a handler (Intel SDM volume 3A, section 6.14.2).

/// The frame of an exception or interrupt in 64-bit mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Error code; 0 where the event has none.
    pub(super) error: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
}

impl Frame {
    /// Length of a frame with an error code: that, RIP, CS, RFLAGS, RSP, SS.
    pub(super) const LEN: usize = 48;
    /// Length of a frame without one.
    pub(super) const LEN_WITHOUT_ERROR: usize = 40;

    /// Reads a frame with an error code off the stack.
    pub(super) fn parse(frame: [u8; Self::LEN]) -> Self {
        let [error, rip, cs, rflags, rsp, _ss] = words(frame.as_chunks().0);
        Self { error, rip, cs, rflags, rsp }
    }

    /// Reads a frame without error code off the stack.
    pub(super) fn parse_without_error(frame: [u8; Self::LEN_WITHOUT_ERROR]) -> Self {
        let [rip, cs, rflags, rsp, _ss] = words(frame.as_chunks().0);
        Self { error: 0, rip, cs, rflags, rsp }
    }
}

fn words<const N: usize>(frame: &[[u8; 8]]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(frame) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_with_and_without_error_code_are_read() {
        let mut bytes = [0; Frame::LEN];
        for (slot, value) in bytes.as_chunks_mut().0.iter_mut().zip([0x15u64, 1, 0x33, 0x246, 2, 0x2b]) {
            *slot = value.to_le_bytes();
        }
        let expected = Frame { error: 0x15, rip: 1, cs: 0x33, rflags: 0x246, rsp: 2 };
        assert_eq!(Frame::parse(bytes), expected);
        let without: [u8; Frame::LEN_WITHOUT_ERROR] = bytes[8..].try_into().unwrap();
        assert_eq!(Frame::parse_without_error(without), Frame { error: 0, ..expected });
    }
}
