//! Registers that keep what is written to them and do nothing: those that kernels look at because every CPU of the kind
//! has them. All others raise general protection, as on a CPU without them, which kernels are prepared for.

use crate::cpu::msrs::{MISC_ENABLE, MTRR_DEF_TYPE, PAT};

/// A register that keeps a value.
#[derive(Debug, Clone, Copy)]
struct Register {
    index: u32,
    value: u64,
    /// Bits that may be written. Writing any other but as it is raises general protection.
    writable: u64,
}

const fn kept(index: u32, value: u64) -> Register {
    Register { index, value, writable: u64::MAX }
}

const fn fixed(index: u32, value: u64) -> Register {
    Register { index, value, writable: 0 }
}

/// Memory types that a PAT entry may have: UC, WC, WT, WP, WB, UC-.
const MEMORY_TYPES: [u8; 6] = [0, 1, 4, 5, 6, 7];
/// MTRRs: eight variable ones, fixed ones, write combining.
const MTRR_CAPABILITIES: u64 = 8 | 1 << 8 | 1 << 10;
/// Not affected by: Meltdown, L1TF on entry, SSB, MDS, page size changes, TAA, SBDR, FBSDP, PSDP, BHI, PBRSB, GDS, RFDS. No
/// program can make an interpreted kernel speculate.
const ARCH_CAPABILITIES: u64 =
    1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 7 << 13 | 1 << 20 | 1 << 24 | 1 << 26 | 1 << 27;
/// HWCR: the TSC ticks at the frequency of the highest performance state.
const TSC_FREQUENCY_SELECTED: u64 = 1 << 24;
/// First register of the variable MTRRs.
const MTRR_VARIABLE: u32 = 0x200;

/// The registers that are not MTRRs.
const REGISTERS: [Register; 32] = [
    // IA32_PLATFORM_ID, IA32_FEATURE_CONTROL (locked), IA32_BIOS_UPDT_TRIG and IA32_BIOS_SIGN_ID: the microcode's revision.
    fixed(0x17, 0),
    fixed(0x3a, 1),
    kept(0x79, 0),
    kept(0x8b, 0x0100_0065),
    // MSR_PLATFORM_INFO.
    fixed(0xce, 0),
    fixed(0xfe, MTRR_CAPABILITIES),
    fixed(0x10a, ARCH_CAPABILITIES),
    // MISC_FEATURES_ENABLES.
    kept(0x140, 0),
    // SYSENTER: CS, ESP, EIP.
    kept(0x174, 0),
    kept(0x175, 0),
    kept(0x176, 0),
    // Machine checks: no banks.
    fixed(0x179, 0),
    kept(0x17a, 0),
    // IA32_PERF_STATUS, IA32_PERF_CTL.
    fixed(0x198, 0),
    kept(0x199, 0),
    kept(MISC_ENABLE.0, MISC_ENABLE.1),
    // DEBUGCTL.
    kept(0x1d9, 0),
    kept(PAT.0, PAT.1),
    kept(MTRR_DEF_TYPE.0, MTRR_DEF_TYPE.1),
    // AMD: SYSCFG, HWCR, TOP_MEM, TOP_MEM2, NB_CFG, VM_CR.
    kept(0xc001_0010, 0),
    kept(0xc001_0015, TSC_FREQUENCY_SELECTED),
    kept(0xc001_001a, 0),
    kept(0xc001_001d, 0),
    kept(0xc001_001f, 0),
    kept(0xc001_0114, 0),
    // AMD: INT_PENDING_MSG, LS_CFG, IC_CFG, DC_CFG, DE_CFG (LFENCE serialises), BU_CFG2, BP_CFG.
    kept(0xc001_0055, 0),
    kept(0xc001_1020, 0),
    kept(0xc001_1021, 0),
    kept(0xc001_1022, 0),
    kept(0xc001_1029, 1 << 1),
    kept(0xc001_102a, 0),
    kept(0xc001_102e, 0),
];

/// The numbers of the MTRRs: variable ones, fixed ones.
fn mtrrs() -> impl Iterator<Item = u32> {
    let variable = MTRR_VARIABLE..MTRR_VARIABLE + 16;
    variable.chain([0x250, 0x258, 0x259]).chain(0x268..=0x26f)
}

/// The registers, by number.
#[derive(Debug)]
pub(super) struct Plain(Vec<Register>);

impl Default for Plain {
    fn default() -> Self {
        let mut registers: Vec<_> = mtrrs().map(|index| kept(index, 0)).chain(REGISTERS).collect();
        registers.sort_unstable_by_key(|register| register.index);
        Self(registers)
    }
}

impl Plain {
    fn find(&self, index: u32) -> Option<usize> {
        self.0.binary_search_by_key(&index, |register| register.index).ok()
    }

    /// The value of register `index`, if there is one.
    pub(super) fn read(&self, index: u32) -> Option<u64> {
        Some(self.0.get(self.find(index)?)?.value)
    }

    /// All registers: number and value.
    pub(super) fn values(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().map(|register| (register.index, register.value))
    }

    /// Sets register `index`; whether it exists and takes that value.
    pub(super) fn write(&mut self, index: u32, value: u64) -> bool {
        let found = self.find(index);
        let Some(register) = found.and_then(|found| self.0.get_mut(found)) else { return false };
        let is_possible = (value ^ register.value) & !register.writable == 0;
        let is_memory_type = |entry: &u8| MEMORY_TYPES.contains(entry);
        if !is_possible || index == PAT.0 && !value.to_le_bytes().iter().all(is_memory_type) {
            return false;
        }
        register.value = value;
        true
    }
}
