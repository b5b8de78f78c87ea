//! What the guest's kernel should not try, because KVM's emulator cannot do it.
//!
//! KVM puts some of these back (XSAVE, POPCNT and others that ring 3 sees anyway), which the kernel command line then
//! takes care of. Bit numbers: Intel SDM volume 2A, CPUID.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1 ECX: FMA, CMPXCHG16B, PCID, MOVBE, POPCNT, XSAVE, OSXSAVE, AVX, F16C, RDRAND.
const LEAF_1_ECX: [u32; 10] = [12, 13, 17, 22, 23, 26, 27, 28, 29, 30];
/// Leaf 7 EBX: FSGSBASE, AVX2, INVPCID, AVX512F, AVX512DQ, RDSEED, SMAP, AVX512IFMA, CLFLUSHOPT, CLWB, AVX512BW,
/// AVX512VL.
const LEAF_7_EBX: [u32; 12] = [0, 5, 10, 16, 17, 18, 20, 21, 23, 24, 30, 31];
/// Leaf 7 ECX: UMIP, PKU, OSPKE, CET_SS.
const LEAF_7_ECX: [u32; 4] = [2, 3, 4, 7];
/// Leaf 7 EDX: MD_CLEAR, CET_IBT, SPEC_CTRL, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD.
const LEAF_7_EDX: [u32; 7] = [10, 20, 26, 27, 28, 29, 31];

fn mask(bits: &[u32]) -> u32 {
    bits.iter().fold(0, |mask, bit| mask | 1 << bit)
}

/// Takes those features out.
pub(in crate::kvm) fn hide_unemulated(entries: &mut [kvm_cpuid_entry2]) {
    for entry in entries {
        match (entry.function, entry.index) {
            (0x1, _) => entry.ecx &= !mask(&LEAF_1_ECX),
            (0x7, 0) => {
                entry.ebx &= !mask(&LEAF_7_EBX);
                entry.ecx &= !mask(&LEAF_7_ECX);
                entry.edx &= !mask(&LEAF_7_EDX);
            }
            // Extended state: none.
            (0xd, _) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xsave_goes_with_everything_that_needs_it() {
        let all = kvm_cpuid_entry2 { eax: !0, ebx: !0, ecx: !0, edx: !0, ..Default::default() };
        let mut entries = [
            kvm_cpuid_entry2 { function: 1, ..all },
            kvm_cpuid_entry2 { function: 7, ..all },
            kvm_cpuid_entry2 { function: 0xd, ..all },
            kvm_cpuid_entry2 { function: 0x4000_0001, ..all },
        ];
        hide_unemulated(&mut entries);
        assert_eq!(entries[0].ecx & (1 << 26 | 1 << 27 | 1 << 28), 0);
        assert_ne!(entries[0].ecx & 1 << 24, 0, "the TSC-deadline timer stays");
        assert_eq!(entries[1].ebx & (1 << 5 | 1 << 20), 0);
        assert_eq!(entries[2].eax, 0);
        assert_eq!(entries[3].eax, !0, "KVM's own leaves stay");
    }
}
