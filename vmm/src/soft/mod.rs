//! The software engine: runs the guest's kernel (ring 0) in an interpreter, and its programs (ring 3) natively through
//! KVM. For hosts whose KVM has no hardware assistance; `docs/software-ring0.md` explains how and why.
//!
//! - `cpu` is the state of the guest's CPU, `flags` its flags, `mmu` its paging, `access` its memory accesses on `ram`.
//! - `code` decodes instructions into operations and keeps them; `ops` says what each does; `step` is what it comes to.
//! - `interpreter` runs them; `interrupts` are the interrupt controllers.

mod access;
mod attention;
mod code;
mod cpu;
mod extended;
mod flags;
mod interpreter;
mod interrupts;
mod mmu;
mod ops;
mod ram;
mod step;
#[cfg(test)]
mod testing;
mod word;
