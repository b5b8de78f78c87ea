//! What CPUID says: to programs what KVM says when they run natively, but for AVX-512 and XSAVEC, to the guest's kernel that
//! without what the interpreter does not do.
//!
//! XSAVE with all of its components stays for the kernel: programs use it whatever they are told, so the kernel must save
//! all of their state.
//!
//! Bit numbers: Intel SDM volume 2A, "CPUID"; AMD APM volume 3, appendix E.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// "KVMKVMKVM" in EBX, ECX, EDX.
const KVM_SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
const KVM_LEAF: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
/// No delay behind port accesses (1), the clock by its newer MSRs (3), and that it is stable (24).
const KVM_OFFERED: u32 = 1 << 1 | 1 << 3 | 1 << 24;

#[derive(Debug, Clone, Copy)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Bits that are hidden, by leaf, subleaf and register.
const HIDDEN: &[(u32, u32, Register, &[u32])] = &[
    // PCLMULQDQ, DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, SSSE3, SDBG, FMA, PDCM, PCID, DCA, AES. (AVX stays: without
    // it the kernel would not save the state.)
    (0x1, 0, Register::Ecx, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 17, 18, 25]),
    // VME, SEP, PSN, DS, ACPI, TM, PBE.
    (0x1, 0, Register::Edx, &[1, 11, 18, 21, 22, 29, 31]),
    // All but ARAT.
    (0x6, 0, Register::Eax, &[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 23, 24]),
    (0x6, 0, Register::Ecx, &[0, 3, 8]),
    // FSGSBASE, TSC_ADJUST, SGX, HLE, AVX2, BMI2, INVPCID, RTM, PQM, MPX, PQE, AVX512DQ, ADX, SMAP, AVX512IFMA, PT, SHA,
    // AVX512BW, AVX512VL. (AVX512F stays for the same reason.)
    (0x7, 0, Register::Ebx, &[0, 1, 2, 4, 5, 8, 10, 11, 12, 14, 15, 17, 19, 20, 21, 25, 29, 30, 31]),
    // UMIP, PKU, OSPKE, WAITPKG, CET_SS, GFNI, VAES, VPCLMULQDQ, TME, LA57, RDPID, KL, bus lock detection, ENQCMD, SGX_LC,
    // PKS.
    (0x7, 0, Register::Ecx, &[2, 3, 4, 5, 7, 8, 9, 10, 13, 16, 22, 23, 24, 29, 30, 31]),
    // UINTR, MD_CLEAR, TSXLDTRK, PCONFIG, ARCH_LBR, CET_IBT, AMX, SPEC_CTRL, STIBP, L1D_FLUSH, CORE_CAPABILITIES, SSBD.
    (0x7, 0, Register::Edx, &[5, 10, 16, 18, 19, 20, 22, 24, 25, 26, 27, 28, 30, 31]),
    // XSAVEOPT, XSAVEC, XGETBV with ECX = 1, XSAVES, XFD. Left is plain XSAVE.
    (0xd, 1, Register::Eax, &[0, 1, 2, 3, 4]),
    // SVM, EXTAPIC, LOCK MOV CR0 as CR8, IBS, OSVW, SKINIT, WDT, LWP, TCE, performance counters, BPEXT, MWAITX.
    (0x8000_0001, 0, Register::Ecx, &[2, 3, 4, 9, 10, 12, 13, 15, 17, 23, 24, 26, 27, 28, 29, 30]),
    // FFXSR.
    (0x8000_0001, 0, Register::Edx, &[25]),
];

/// Bits that are hidden from programs, in the same way: all of AVX-512, and XSAVEC.
///
/// C libraries choose their string functions by what CPUID says. The interpreter knows those for AVX2, but none for
/// AVX-512, so with that every short stretch of a program would need a native entry; likewise the dynamic linker
/// chooses how it saves registers whenever it looks up a function. Nothing breaks either way: a program that asks
/// natively is told of both, and can use them there; what the kernel is told, saves and restores includes the state of
/// AVX-512.
const HIDDEN_FROM_PROGRAMS: &[(u32, u32, Register, &[u32])] = &[
    // AVX512F, DQ, IFMA, PF, ER, CD, BW, VL.
    (0x7, 0, Register::Ebx, &[16, 17, 21, 26, 27, 28, 30, 31]),
    // VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
    (0x7, 0, Register::Ecx, &[1, 6, 11, 12, 14]),
    // 4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
    (0x7, 0, Register::Edx, &[2, 3, 8, 23]),
    // BF16.
    (0x7, 1, Register::Eax, &[5]),
    // XSAVEC.
    (0xd, 1, Register::Eax, &[1]),
];

/// The bits that stay, by leaf, subleaf and register; none of the others does.
const KEPT: &[(u32, u32, Register, u32)] = &[
    // AVX_VNNI, AVX512_BF16, fast short string operations.
    (0x7, 1, Register::Eax, 0x1c30),
    // Invariant TSC.
    (0x8000_0007, 0, Register::Edx, 1 << 8),
    // CLZERO, XSAVEERPTR, WBNOINVD.
    (0x8000_0008, 0, Register::Ebx, 0x205),
    // LFENCE serialises, null selectors clear bases; not affected by two attacks.
    (0x8000_0021, 0, Register::Eax, 0x44),
    (0x8000_0021, 0, Register::Ecx, 6),
];

/// Leaves about devices that are not there: MONITOR, performance counters, SGX, PT, key locker, AMX, SVM, IBS, resource
/// control, memory encryption.
const EMPTY: [u32; 15] = [
    0x5,
    0xa,
    0xf,
    0x10,
    0x12,
    0x14,
    0x19,
    0x1d,
    0x1e,
    0x8000_000a,
    0x8000_001b,
    0x8000_001f,
    0x8000_0020,
    0x8000_0022,
    0x8000_0023,
];

/// Bits that the interpreter brings along: x2APIC and its deadline timer, string instructions that are fast,
/// IA32_ARCH_CAPABILITIES, and that no program can make the kernel speculate (SRSO_NO).
const OFFERED: [(u32, u32, Register, u32); 6] = [
    (0x1, 0, Register::Ecx, 1 << 21),
    (0x1, 0, Register::Ecx, 1 << 24),
    (0x7, 0, Register::Ebx, 1 << 9),
    (0x7, 0, Register::Edx, 1 << 4),
    (0x7, 0, Register::Edx, 1 << 29),
    (0x8000_0021, 0, Register::Eax, 1 << 29),
];

fn register(entry: &mut kvm_cpuid_entry2, register: Register) -> &mut u32 {
    match register {
        Register::Eax => &mut entry.eax,
        Register::Ebx => &mut entry.ebx,
        Register::Ecx => &mut entry.ecx,
        Register::Edx => &mut entry.edx,
    }
}

/// Clears those of the bits that are in this leaf.
fn hide(entry: &mut kvm_cpuid_entry2, hidden: &[(u32, u32, Register, &[u32])]) {
    for (function, index, which, bits) in hidden {
        if (entry.function, entry.index) == (*function, *index) {
            *register(entry, *which) &= !bits.iter().fold(0, |mask, bit| mask | 1 << bit);
        }
    }
}

/// Takes out of one leaf what the interpreter does not do, and adds what it does.
fn fit(entry: &mut kvm_cpuid_entry2) {
    let key = (entry.function, entry.index);
    if EMPTY.contains(&entry.function) {
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
    }
    match key {
        (0x7, 1..) => (entry.ebx, entry.ecx, entry.edx) = (0, 0, 0),
        (0xd, 1) => (entry.ebx, entry.ecx, entry.edx) = (0, 0, 0),
        (0x8000_0007, _) => (entry.eax, entry.ebx, entry.ecx) = (0, 0, 0),
        (0x8000_0021, _) => (entry.ebx, entry.edx) = (0, 0),
        _ => {}
    }
    hide(entry, HIDDEN);
    for (function, index, which, mask) in KEPT {
        if key == (*function, *index) {
            *register(entry, *which) &= mask;
        }
    }
    for (function, index, which, mask) in OFFERED {
        if key == (function, index) {
            *register(entry, which) |= mask;
        }
    }
}

fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let matches = |entry: &&kvm_cpuid_entry2| {
        let any_index = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX == 0;
        entry.function == function && (any_index || entry.index == index)
    };
    let entry = table.iter().find(matches).copied().unwrap_or_default();
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

/// The tables that CPUID reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpuid {
    kernel: Vec<kvm_cpuid_entry2>,
    programs: Vec<kvm_cpuid_entry2>,
}

impl Cpuid {
    /// The tables for a host where KVM says `entries` to programs, which have the machine's shape already.
    pub(crate) fn of_host(entries: &[kvm_cpuid_entry2]) -> Self {
        let is_ours = |entry: &&kvm_cpuid_entry2| !(KVM_LEAF..0x8000_0000).contains(&entry.function);
        let mut kernel: Vec<_> = entries.iter().filter(is_ours).copied().collect();
        kernel.iter_mut().for_each(fit);
        let [ebx, ecx, edx] = KVM_SIGNATURE;
        let leaf = kvm_cpuid_entry2::default();
        kernel.push(kvm_cpuid_entry2 { function: KVM_LEAF, eax: KVM_FEATURES, ebx, ecx, edx, ..leaf });
        kernel.push(kvm_cpuid_entry2 { function: KVM_FEATURES, eax: KVM_OFFERED, ..leaf });
        let mut programs = entries.to_vec();
        programs.iter_mut().for_each(|entry| hide(entry, HIDDEN_FROM_PROGRAMS));
        Self { kernel, programs }
    }

    /// What the kernel is told, all of it.
    pub(crate) fn entries(&self) -> &[kvm_cpuid_entry2] {
        &self.kernel
    }

    /// EAX, EBX, ECX, EDX of a leaf as the kernel is told; zeros where there is none.
    pub(crate) fn leaf(&self, function: u32, index: u32) -> [u32; 4] {
        find(&self.kernel, function, index)
    }

    /// EAX, EBX, ECX, EDX of a leaf as programs are told; zeros where there is none.
    pub(crate) fn programs_leaf(&self, function: u32, index: u32) -> [u32; 4] {
        find(&self.programs, function, index)
    }

    /// Whether a bit of leaf 1 ECX is set.
    pub(crate) fn has_basic(&self, bit: u32) -> bool {
        self.leaf(1, 0)[2] >> bit & 1 != 0
    }

    /// Whether a bit of leaf 7 EBX is set.
    pub(crate) fn has_structured(&self, bit: u32) -> bool {
        self.leaf(7, 0)[1] >> bit & 1 != 0
    }

    /// Physical address bits, 36 if it is not said.
    pub(crate) fn address_bits(&self) -> u32 {
        match self.leaf(0x8000_0008, 0)[0] & 0xff {
            0 => 36,
            bits => bits.min(52),
        }
    }

    /// The components of extended state that XCR0 may have.
    pub(crate) fn extended_state(&self) -> u64 {
        let [low, _, _, high] = self.leaf(0xd, 0);
        u64::from(low) | u64::from(high) << 32
    }

    /// Bytes of an XSAVE area, in the standard format, for the components in `xcr0`.
    pub(crate) fn xsave_len(&self, xcr0: u64) -> u32 {
        const LEGACY_AND_HEADER: u32 = 576;
        let end = |component| {
            let [len, offset, ..] = self.leaf(0xd, component);
            len.saturating_add(offset)
        };
        let is_on = |component: &u32| xcr0 >> component & 1 != 0;
        (2..63).filter(is_on).map(end).fold(LEGACY_AND_HEADER, u32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Vec<kvm_cpuid_entry2> {
        let all = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
            ..Default::default()
        };
        let leaves = [0x1, 0x5, 0x7, 0xd, 0x8000_0001, 0x8000_0008, 0x8000_0021, KVM_FEATURES, 0x4000_0010];
        let mut entries: Vec<_> = leaves.map(|function| all(function, 0)).into();
        entries.extend([all(0x7, 1), all(0xd, 1), all(0xd, 2)]);
        entries
    }

    #[test]
    fn what_the_interpreter_lacks_is_hidden() {
        let table = Cpuid::of_host(&everything());
        for (bit, name) in [(3, "MONITOR"), (17, "PCID"), (5, "VMX")] {
            assert!(!table.has_basic(bit), "{name}");
        }
        for (bit, name) in [(20, "SMAP"), (10, "INVPCID"), (0, "FSGSBASE"), (5, "AVX2"), (25, "PT")] {
            assert!(!table.has_structured(bit), "{name}");
        }
        assert_eq!(table.leaf(7, 0)[2] & (1 << 16 | 1 << 2 | 1 << 3), 0, "LA57, UMIP, PKU");
        assert_eq!(table.leaf(7, 0)[3] >> 26, 1 << 3, "what controls speculation");
        assert_eq!(table.leaf(0xd, 1)[0] & 0x1f, 0, "variants of XSAVE");
        assert_eq!(table.leaf(0x5, 0), [0; 4]);
        assert_eq!(table.leaf(0x8000_0001, 0)[2] >> 2 & 1, 0, "SVM");
    }

    #[test]
    fn programs_are_told_what_they_see_natively_but_for_avx_512_and_xsavec() {
        let table = Cpuid::of_host(&everything());
        for (function, index) in [(1, 0), (0xd, 0), (0xd, 2), (0x8000_0001, 0)] {
            assert_eq!(table.programs_leaf(function, index), [!0; 4], "leaf {function:#x}");
        }
        assert_eq!(table.programs_leaf(9, 0), [0; 4]);
        let [_, ebx, ecx, edx] = table.programs_leaf(7, 0).map(|register| !register);
        assert_eq!((ebx, ecx, edx), (0xdc23_0000, 0x5842, 0x80_010c));
        assert_eq!(!table.programs_leaf(7, 1)[0], 1 << 5);
        assert_eq!(!table.programs_leaf(0xd, 1)[0], 1 << 1, "XSAVEC");
    }

    #[test]
    fn what_the_kernel_must_save_or_can_use_stays() {
        let table = Cpuid::of_host(&everything());
        for (bit, name) in
            [(13, "CX16"), (22, "MOVBE"), (23, "POPCNT"), (26, "XSAVE"), (28, "AVX"), (30, "RDRAND")]
        {
            assert!(table.has_basic(bit), "{name}");
        }
        assert!(table.has_structured(16) && table.has_structured(7), "AVX512F, SMEP");
        assert_eq!(table.leaf(0xd, 2), [!0; 4]);
    }

    #[test]
    fn what_the_interpreter_brings_along_is_shown() {
        let leaf = |function| kvm_cpuid_entry2 { function, ..Default::default() };
        let table = Cpuid::of_host(&[leaf(1), leaf(7)]);
        assert!(table.has_basic(21) && table.has_basic(24), "x2APIC and its deadline timer");
        assert!(table.has_structured(9), "fast string instructions");
    }

    #[test]
    fn of_kvms_leaves_there_are_the_signature_and_the_clock() {
        let table = Cpuid::of_host(&everything());
        let [eax, signature @ ..] = table.leaf(KVM_LEAF, 0);
        let bytes = signature.map(u32::to_le_bytes).concat();
        assert_eq!((eax, bytes.as_slice()), (KVM_FEATURES, b"KVMKVMKVM\0\0\0".as_slice()));
        assert_eq!(table.leaf(KVM_FEATURES, 7), [0x0100_000a, 0, 0, 0]);
        assert_eq!(table.leaf(0x4000_0010, 0), [0; 4]);
    }

    #[test]
    fn the_length_of_saved_state_follows_what_is_switched_on() {
        let component = |index, eax, ebx| kvm_cpuid_entry2 {
            function: 0xd,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax,
            ebx,
            ..Default::default()
        };
        let table = Cpuid::of_host(&[component(0, 7, 0), component(2, 256, 576), component(9, !0, 8)]);
        assert_eq!(table.extended_state(), 7);
        assert_eq!([1, 3, 7].map(|xcr0| table.xsave_len(xcr0)), [576, 576, 832]);
        assert_eq!(table.xsave_len(1 << 9), u32::MAX, "a nonsensical size does not overflow");
    }
}
