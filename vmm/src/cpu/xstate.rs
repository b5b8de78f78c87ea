//! What XSAVE and XRSTOR do to memory and to the extended state, in the standard format. Pure.
//!
//! Intel SDM volume 1, chapter 13. KVM hands out and takes the extended state in the same format.

use kvm_bindings::kvm_cpuid_entry2;

/// The state as KVM has it (`struct kvm_xsave`).
pub(crate) const STATE_LEN: usize = 4096;
/// Legacy region and header; components start behind.
const HEADER_END: usize = 576;
/// XSTATE_BV: which components the area holds.
const XSTATE_BV: usize = 512;
/// XCOMP_BV and reserved bytes, all zero in the standard format.
const MUST_BE_ZERO: std::ops::Range<usize> = 520..HEADER_END;

const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const UPPER_ZMM: u64 = 1 << 6;

/// Control word of the x87 unit after initialisation, at the beginning of the area.
const FCW_INIT: u16 = 0x37f;

/// Where x87, MXCSR and SSE state lie in the legacy region.
const X87_CONTROL: std::ops::Range<usize> = 0..24;
const MXCSR: std::ops::Range<usize> = 24..28;
const MXCSR_MASK: std::ops::Range<usize> = 28..32;
const X87_REGISTERS: std::ops::Range<usize> = 32..160;
const XMM_REGISTERS: std::ops::Range<usize> = 160..416;

/// An XRSTOR from an area that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GeneralProtection;

/// One component of the extended state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Component {
    mask: u64,
    offset: usize,
    len: usize,
}

/// Where components lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    components: Vec<Component>,
    /// Offset of bits 128 to 255 of vector registers 0 to 15; behind the area if they are not in it.
    pub(crate) high_halves: usize,
    /// Offset of bits 256 to 511 of vector registers 0 to 15; behind the area if they are not in it.
    pub(crate) upper_zmm: usize,
}

impl Layout {
    /// Reads the layout out of CPUID leaf 0xD; components that do not fit into KVM's structure are left out.
    pub(crate) fn from_cpuid(entries: &[kvm_cpuid_entry2]) -> Self {
        let subleaves = entries.iter().filter(|e| e.function == 0xd && (2..63).contains(&e.index));
        let components =
            subleaves.map(|e| Component { mask: 1 << e.index, offset: e.ebx as usize, len: e.eax as usize });
        let fits = |c: &Component| c.len > 0 && c.offset >= HEADER_END && c.offset + c.len <= STATE_LEN;
        let components: Vec<_> = components.filter(fits).collect();
        let offset = |mask, len| {
            let component = components.iter().find(|c| c.mask == mask && c.len >= len);
            component.map_or(STATE_LEN, |component| component.offset)
        };
        let (high_halves, upper_zmm) = (offset(AVX, 16 * 16), offset(UPPER_ZMM, 16 * 32));
        Self { components, high_halves, upper_zmm }
    }

    /// Length of an area that holds the components in `mask`.
    pub(crate) fn area_len(&self, mask: u64) -> usize {
        self.chosen(mask).map(|c| c.offset + c.len).fold(HEADER_END, usize::max)
    }

    fn chosen(&self, mask: u64) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(move |c| c.mask & mask != 0)
    }
}

fn copy(to: &mut [u8], from: &[u8], range: std::ops::Range<usize>) {
    if let (Some(to), Some(from)) = (to.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}

fn fill(to: &mut [u8], range: std::ops::Range<usize>) {
    if let Some(to) = to.get_mut(range) {
        to.fill(0);
    }
}

fn get_bv(area: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    if let Some(from) = area.get(XSTATE_BV..XSTATE_BV + 8) {
        bytes.copy_from_slice(from);
    }
    u64::from_le_bytes(bytes)
}

fn set_bv(area: &mut [u8], bv: u64) {
    if let Some(to) = area.get_mut(XSTATE_BV..XSTATE_BV + 8) {
        to.copy_from_slice(&bv.to_le_bytes());
    }
}

/// XSAVE of the components in `requested`: brings `area`, the memory as it is, up to date from `state`.
pub(crate) fn save(area: &mut [u8], state: &[u8; STATE_LEN], layout: &Layout, requested: u64) {
    if requested & X87 != 0 {
        copy(area, state, X87_CONTROL);
        copy(area, state, X87_REGISTERS);
    }
    if requested & (SSE | AVX) != 0 {
        copy(area, state, MXCSR);
        copy(area, state, MXCSR_MASK);
    }
    if requested & SSE != 0 {
        copy(area, state, XMM_REGISTERS);
    }
    for component in layout.chosen(requested) {
        copy(area, state, component.offset..component.offset + component.len);
    }
    let bv = (get_bv(area) & !requested) | (get_bv(state) & requested);
    set_bv(area, bv);
}

/// XRSTOR of the components in `requested`: loads them into `state` from `area`, or their initial state where the
/// area says that it holds nothing for them. `enabled` is XCR0.
///
/// # Errors
/// The area's header is not one that XRSTOR takes.
pub(crate) fn restore(
    state: &mut [u8; STATE_LEN],
    area: &[u8],
    layout: &Layout,
    requested: u64,
    enabled: u64,
) -> Result<(), GeneralProtection> {
    let held = get_bv(area);
    let rest_is_zero = area.get(MUST_BE_ZERO).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    if held & !enabled != 0 || !rest_is_zero {
        return Err(GeneralProtection);
    }
    let loaded = held & requested;
    if loaded & X87 != 0 {
        copy(state, area, X87_CONTROL);
        copy(state, area, X87_REGISTERS);
    } else if requested & X87 != 0 {
        fill(state, X87_CONTROL);
        fill(state, X87_REGISTERS);
        copy(state, &FCW_INIT.to_le_bytes(), 0..2);
    }
    let mut bv = (get_bv(state) & !requested) | loaded;
    if requested & (SSE | AVX) != 0 {
        // MXCSR is loaded whether or not the area holds SSE state. KVM takes it only along with the latter.
        copy(state, area, MXCSR);
        if bv & SSE == 0 {
            fill(state, XMM_REGISTERS);
        }
        bv |= SSE;
    }
    if loaded & SSE != 0 {
        copy(state, area, XMM_REGISTERS);
    }
    for component in layout.chosen(loaded) {
        copy(state, area, component.offset..component.offset + component.len);
    }
    // What is in its initial state is zero, as KVM has it.
    for component in layout.chosen(get_bv(state) & requested & !held) {
        fill(state, component.offset..component.offset + component.len);
    }
    set_bv(state, bv);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLED: u64 = X87 | SSE | AVX;

    fn layout() -> Layout {
        let leaf =
            |index, eax, ebx| kvm_cpuid_entry2 { function: 0xd, index, eax, ebx, ..Default::default() };
        Layout::from_cpuid(&[leaf(0, 7, 832), leaf(1, 0, 0), leaf(2, 256, 576), leaf(9, 8, 5000)])
    }

    fn filled(byte: u8, bv: u64) -> [u8; STATE_LEN] {
        let mut state = [byte; STATE_LEN];
        state[XSTATE_BV..HEADER_END].fill(0);
        set_bv(&mut state, bv);
        state
    }

    #[test]
    fn the_layout_holds_what_fits() {
        assert_eq!(layout().components, [Component { mask: AVX, offset: 576, len: 256 }]);
        assert_eq!((layout().high_halves, layout().upper_zmm), (576, STATE_LEN));
        assert_eq!((layout().area_len(AVX), layout().area_len(SSE)), (832, 576));
    }

    #[test]
    fn what_was_saved_is_restored() {
        let (saved, other) = (filled(0x11, ENABLED), filled(0x22, ENABLED));
        let mut area = vec![0; 832];
        save(&mut area, &saved, &layout(), ENABLED);
        let mut state = other;
        restore(&mut state, &area, &layout(), ENABLED, ENABLED).unwrap();
        // MXCSR_MASK is a property of the processor: saved, never restored.
        let changed = state.iter().zip(&other).map(|(now, before)| now != before);
        let changed: Vec<usize> =
            changed.enumerate().filter_map(|(at, changed)| changed.then_some(at)).collect();
        let expected: Vec<usize> = (0..28).chain(32..416).chain(576..832).collect();
        assert_eq!(changed, expected);
    }

    #[test]
    fn only_what_was_requested_is_touched() {
        let mut area = filled(0x33, ENABLED)[..832].to_vec();
        save(&mut area, &filled(0x11, X87), &layout(), X87);
        assert_eq!((area[0], area[24], area[160], area[576]), (0x11, 0x33, 0x33, 0x33));
        assert_eq!(get_bv(&area), ENABLED);

        let mut state = filled(0x44, ENABLED);
        restore(&mut state, &area, &layout(), AVX, ENABLED).unwrap();
        assert_eq!((state[0], state[24], state[160], state[576]), (0x44, 0x33, 0x44, 0x33));
    }

    #[test]
    fn what_the_area_does_not_hold_becomes_initial() {
        let mut state = filled(0x44, ENABLED);
        let mut area = vec![0; 832];
        area[24] = 0x80;
        area[25] = 0x1f;
        restore(&mut state, &area, &layout(), ENABLED, ENABLED).unwrap();
        // KVM initialises what the header leaves out; MXCSR needs SSE, whose registers are zero then.
        assert_eq!(get_bv(&state), SSE);
        assert_eq!(state[MXCSR], [0x80, 0x1f, 0, 0]);
        assert!(state[XMM_REGISTERS].iter().all(|byte| *byte == 0));
        assert!(state[X87_REGISTERS].iter().all(|byte| *byte == 0));
        assert!(state[576..832].iter().all(|byte| *byte == 0));
        assert_eq!(state[..4], [0x7f, 3, 0, 0], "the control word of another program does not stay");
    }

    #[test]
    fn a_header_with_unknown_bits_is_refused() {
        let mut state = filled(0, 0);
        let mut area = vec![0; 832];
        set_bv(&mut area, 1 << 9);
        assert_eq!(restore(&mut state, &area, &layout(), ENABLED, ENABLED), Err(GeneralProtection));
        let mut compact = vec![0; 832];
        compact[527] = 0x80;
        assert_eq!(restore(&mut state, &compact, &layout(), ENABLED, ENABLED), Err(GeneralProtection));
    }
}
