//! The model-specific registers that firmware would have set before a kernel starts, on every processor alike. What is
//! not here is as after a reset, which is what kernels expect of it.

/// IA32_MISC_ENABLE, bit 0: fast string operations.
pub(crate) const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// IA32_PAT: WB, WT, UC-, UC, twice. Its value after a reset, of which kernels build on the first four.
pub(crate) const PAT: (u32, u64) = (0x277, 0x0007_0406_0007_0406);
/// IA32_MTRR_DEF_TYPE: MTRRs on (bit 11), everything write-back (6).
pub(crate) const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// All of them.
pub(crate) const BOOT: [(u32, u64); 3] = [MISC_ENABLE, PAT, MTRR_DEF_TYPE];
