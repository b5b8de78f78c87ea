//! The model-specific registers that firmware would have set before a kernel starts.

/// IA32_MISC_ENABLE, bit 0: fast string operations.
pub(crate) const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// IA32_MTRR_DEF_TYPE: MTRRs on (bit 11), everything write-back (6).
pub(crate) const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);
