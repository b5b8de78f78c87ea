//! What a user types to the VMM and not to the guest: Ctrl-A x ends the guest, as in QEMU, and Ctrl-A Ctrl-A sends one
//! Ctrl-A.

const CTRL_A: u8 = 1;

/// Finds the escape sequence in a stream of typed bytes.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    /// Ctrl-A was typed last.
    started: bool,
}

impl Escape {
    /// Removes the escapes from `bytes`; returns what to pass on, at most one byte more, and whether to end the guest.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            match (self.started, byte) {
                (false, CTRL_A) => self.started = true,
                (true, b'x' | b'X') => return (passed, true),
                (started, byte) => {
                    if started && byte != CTRL_A {
                        passed.push(CTRL_A);
                    }
                    passed.push(byte);
                    self.started = false;
                }
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_ends_and_everything_else_passes() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"ls\r"), (b"ls\r".to_vec(), false));
        assert_eq!(escape.filter(b"a\x01"), (b"a".to_vec(), false));
        assert_eq!(escape.filter(b"b"), (b"\x01b".to_vec(), false));
        assert_eq!(escape.filter(b"\x01\x01x"), (b"\x01x".to_vec(), false));
        assert_eq!(escape.filter(b"y\x01x"), (b"y".to_vec(), true));
    }
}
