//! Vector registers in the standard format of XSAVE (Intel SDM volume 1, section 13.4).

use crate::kvm::ExtendedState;

const REGISTERS: usize = 160;
const BYTES: usize = 16;
/// Which parts are not in their initial state: x87 and SSE.
const XSTATE_BV: usize = 512;
const IN_USE: u8 = 3;
/// Default control words, with all exceptions masked.
const FCW: [u8; 2] = 0x37fu16.to_le_bytes();
const MXCSR: [u8; 4] = 0x1f80u32.to_le_bytes();

/// A state with these XMM registers.
pub(super) fn state(vectors: &[u128]) -> Box<ExtendedState> {
    let mut state = Box::new([0; 4096]);
    state[..2].copy_from_slice(&FCW);
    state[24..28].copy_from_slice(&MXCSR);
    state[XSTATE_BV] = IN_USE;
    for (at, vector) in (REGISTERS..).step_by(BYTES).zip(vectors) {
        state[at..at + BYTES].copy_from_slice(&vector.to_le_bytes());
    }
    state
}

/// The XMM registers of a state.
pub(super) fn registers(state: &ExtendedState) -> Vec<u128> {
    let area = &state[REGISTERS..REGISTERS + 16 * BYTES];
    area.as_chunks().0.iter().map(|bytes| u128::from_le_bytes(*bytes)).collect()
}
