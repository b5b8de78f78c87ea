//! The software engine: runs the guest's kernel (ring 0) in an interpreter, and its programs (ring 3) natively through
//! KVM. For hosts whose KVM has no hardware assistance; `docs/software-ring0.md` explains how and why.
//!
//! - `cpu` is the state of the guest's CPU, `flags` its flags, `mmu` its paging, `access` its memory accesses on `ram`.
//! - `code` decodes instructions into operations and keeps them; `ops` says what each does; `step` is what it comes to.
//! - `interpreter` runs them; `interrupts` are the interrupt controllers.
//! - `exception` delivers exceptions and interrupts, by `delivery` and `gate`; `descriptors` and `segments` are about the
//!   guest's descriptor tables, `privilege` about who may do what.
//! - `system` is what only system instructions touch: `msrs`, `cpuid`, `clock` and the guest's view of it, `pvclock`.

mod access;
mod attention;
mod clock;
mod code;
mod cpu;
mod cpuid;
mod delivery;
mod descriptors;
#[cfg(test)]
mod difftest;
mod engine;
mod exception;
mod extended;
mod flags;
mod gate;
#[cfg(test)]
mod hostile;
mod interpreter;
mod interrupts;
mod mmu;
mod msrs;
mod ops;
mod persist;
mod platform;
mod privilege;
mod pvclock;
mod ram;
mod segments;
mod step;
mod system;
#[cfg(test)]
mod testing;
mod word;

pub(crate) use platform::{CMDLINE, SoftPlatform};

/// Takes `text` as the saved state of interrupt controllers, and lets them run.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_controllers(text: &str) {
    let Ok(saved) = serde_json::value::RawValue::from_string(text.to_owned()) else { return };
    let controllers = interrupts::Controllers::new(std::sync::Arc::new(|| ()), 2_000_000, true);
    if controllers.restore(&saved).is_ok() {
        for step in 0..100 {
            controllers.advance(step << 20);
            let _ = controllers.take(interrupts::Accepts { maskable: true, nmi: true });
        }
    }
}
