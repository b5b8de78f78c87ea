//! The host's time stamp counter.

/// What it counts now.
#[inline(always)]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and nobody forbids it to processes.
    unsafe { std::arch::x86_64::_rdtsc() }
}
