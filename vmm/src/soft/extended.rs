//! The state of FPU and vector units, while an instruction of the interpreter works on it.
//!
//! It lives in KVM as long as ring 3 runs natively. The first instruction that needs it brings it here; before ring 3 runs
//! natively again it goes back, if it was changed.

use crate::kvm::ExtendedState;

/// The state.
#[derive(Debug, Clone)]
pub(crate) struct Extended {
    /// In the standard format of XSAVE.
    pub(crate) state: Box<ExtendedState>,
    /// It was changed since it came from KVM.
    pub(crate) is_dirty: bool,
}

impl Extended {
    /// A state as KVM has it.
    pub(crate) fn new(state: Box<ExtendedState>) -> Self {
        Self { state, is_dirty: false }
    }
}
