//! What KVM says about an error of its own: mostly, an instruction that it could not emulate.

use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_run};

/// What KVM says about an internal error.
pub(super) struct InternalError {
    /// Which kind, `KVM_INTERNAL_ERROR_…`.
    pub(super) suberror: u32,
    bytes: [u8; 15],
    len: usize,
}

impl InternalError {
    /// Flag in `data[0]`: the instruction's bytes follow (KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES).
    const HAS_BYTES: u64 = 1;

    /// Reads it after the exit that reports it.
    pub(super) fn of(run: &kvm_run) -> Self {
        // SAFETY: KVM sets this member of the union for the exit that brought us here; it is plain numbers.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let mut error = Self { suberror: internal.suberror, bytes: [0; 15], len: 0 };
        let is_emulation = internal.suberror == KVM_INTERNAL_ERROR_EMULATION && internal.ndata >= 3;
        if is_emulation && internal.data[0] & Self::HAS_BYTES != 0 {
            // Two words hold the length in the first byte and then up to 15 bytes of instruction.
            let [len, low @ ..] = internal.data[1].to_le_bytes();
            error.bytes[..7].copy_from_slice(&low);
            error.bytes[7..].copy_from_slice(&internal.data[2].to_le_bytes());
            error.len = usize::from(len).min(error.bytes.len());
        }
        error
    }

    /// The bytes of the instruction that could not be emulated, where KVM gave them.
    pub(super) fn instruction(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len).filter(|bytes| !bytes.is_empty())
    }

    /// What happened, as text.
    pub(super) fn cause(&self) -> String {
        match self.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "KVM cannot emulate an instruction".to_owned(),
            other => format!("internal error {other} of KVM"),
        }
    }
}
