//! Vector registers in the standard format of XSAVE (Intel SDM volume 1, section 13.4).
//!
//! As a list of halves: bits 0 to 127 of all sixteen, then bits 128 to 255, then bits 256 to 511, two halves each. A list
//! may end behind any of the three; the rest is in its initial state.

use crate::cpu::xstate::Layout;
use crate::kvm::ExtendedState;

const REGISTERS: usize = 160;
const BYTES: usize = 16;
/// Lengths of the list.
pub(super) const LENGTHS: [usize; 3] = [16, 32, 64];
/// Which parts are not in their initial state: x87 and SSE, AVX, the upper halves of AVX-512.
const XSTATE_BV: usize = 512;
const IN_USE: [u8; 3] = [3, 4, 1 << 6];
/// Default control words, with all exceptions masked.
const FCW: [u8; 2] = 0x37fu16.to_le_bytes();
const MXCSR: [u8; 4] = 0x1f80u32.to_le_bytes();

/// Where the parts of the list are, and which of it they are; the host may not have all of them.
fn parts(layout: &Layout) -> impl Iterator<Item = (u8, usize, std::ops::Range<usize>)> {
    let starts = [REGISTERS, layout.high_halves, layout.upper_zmm];
    let ranges = [0..LENGTHS[0], LENGTHS[0]..LENGTHS[1], LENGTHS[1]..LENGTHS[2]];
    let parts = IN_USE.into_iter().zip(starts).zip(ranges);
    parts.map(|((in_use, start), range)| (in_use, start, range)).filter(|(_, start, _)| *start < 4096)
}

/// A state with these registers.
pub(super) fn state(vectors: &[u128], layout: &Layout) -> Box<ExtendedState> {
    let mut state = Box::new([0; 4096]);
    state[..2].copy_from_slice(&FCW);
    state[24..28].copy_from_slice(&MXCSR);
    state[XSTATE_BV] = IN_USE[0];
    for (in_use, start, range) in parts(layout) {
        let Some(values) = vectors.get(range) else { continue };
        state[XSTATE_BV] |= in_use;
        for (at, vector) in (start..).step_by(BYTES).zip(values) {
            state[at..at + BYTES].copy_from_slice(&vector.to_le_bytes());
        }
    }
    state
}

/// The registers of a state.
pub(super) fn registers(state: &ExtendedState, layout: &Layout) -> Vec<u128> {
    let mut vectors = Vec::new();
    for (in_use, start, range) in parts(layout) {
        let area = &state[start..start + range.len() * BYTES];
        let is_in_use = state[XSTATE_BV] & in_use & !1 != 0;
        vectors.extend(
            area.as_chunks().0.iter().map(|bytes| if is_in_use { u128::from_le_bytes(*bytes) } else { 0 }),
        );
    }
    vectors
}

/// The name of an entry of the list.
pub(super) fn name(index: usize) -> String {
    match index {
        0..16 => format!("xmm{index}"),
        16..32 => format!("the high half of ymm{}", index - 16),
        _ => format!("quarter {} of zmm{}", 2 + index % 2, (index - 32) / 2),
    }
}
