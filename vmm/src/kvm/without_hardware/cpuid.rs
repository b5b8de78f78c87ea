//! What the guest's kernel should not try, because neither KVM's emulator nor our repairs do it.
//!
//! KVM puts some of these back (POPCNT and others that ring 3 sees anyway), which the kernel command line then takes
//! care of. XSAVE, AVX and AVX-512 stay: ring 3 runs with the host's XCR0 and uses them whatever CPUID says here, so
//! the guest's kernel must save all of their state (`xsave`). Bit numbers: Intel SDM volume 2A, CPUID.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1 ECX: FMA, CMPXCHG16B, PCID, MOVBE, POPCNT, F16C, RDRAND.
const LEAF_1_ECX: [u32; 7] = [12, 13, 17, 22, 23, 29, 30];
/// Leaf 7 EBX: FSGSBASE, AVX2, INVPCID, AVX512DQ, RDSEED, SMAP, AVX512IFMA, CLFLUSHOPT, CLWB, AVX512BW, AVX512VL.
/// (AVX512F stays: without it the kernel would not save the state.)
const LEAF_7_EBX: [u32; 11] = [0, 5, 10, 17, 18, 20, 21, 23, 24, 30, 31];
/// Leaf 7 ECX: UMIP, PKU, OSPKE, CET_SS.
const LEAF_7_ECX: [u32; 4] = [2, 3, 4, 7];
/// Leaf 7 EDX: MD_CLEAR, CET_IBT, SPEC_CTRL, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD.
const LEAF_7_EDX: [u32; 7] = [10, 20, 26, 27, 28, 29, 31];
/// Leaf 0xD, subleaf 1, EAX: XSAVEOPT, XSAVEC, XGETBV with ECX = 1, XSAVES, XFD. Left is plain XSAVE.
const LEAF_D_1_EAX: [u32; 5] = [0, 1, 2, 3, 4];

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
            (0xd, 1) => {
                entry.eax &= !mask(&LEAF_D_1_EAX);
                (entry.ebx, entry.ecx, entry.edx) = (0, 0, 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_state_is_saved_by_plain_xsave_only() {
        let all = kvm_cpuid_entry2 { eax: !0, ebx: !0, ecx: !0, edx: !0, ..Default::default() };
        let mut entries = [
            kvm_cpuid_entry2 { function: 1, ..all },
            kvm_cpuid_entry2 { function: 7, ..all },
            kvm_cpuid_entry2 { function: 0xd, index: 1, ..all },
            kvm_cpuid_entry2 { function: 0xd, index: 2, ..all },
            kvm_cpuid_entry2 { function: 0x4000_0001, ..all },
        ];
        hide_unemulated(&mut entries);
        let [leaf_1, leaf_7, xsave_variants, avx_state, kvm] = entries;
        assert_eq!(leaf_1.ecx & (1 << 26 | 1 << 28), 1 << 26 | 1 << 28, "XSAVE and AVX stay");
        assert_ne!(leaf_1.ecx & 1 << 24, 0, "the TSC-deadline timer stays");
        assert_eq!(leaf_7.ebx & (1 << 5 | 1 << 16 | 1 << 20), 1 << 16, "of these, AVX512F stays");
        assert_eq!(xsave_variants.eax & 0xf, 0);
        assert_eq!((avx_state.eax, kvm.eax), (!0, !0));
    }
}
