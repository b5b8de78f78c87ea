//! What the guest's CPUID instruction says: what KVM supports, with one processor of our own shape. Each engine hides
//! from that what it lacks.
//!
//! Intel SDM volume 2A "CPUID", AMD APM volume 3 appendix E; KVM's own leaves from 0x4000_0000 (paravirtual clock and
//! the like) are kept as KVM gives them.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1 ECX: the TSC-deadline timer mode of the local APIC.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor in the package.
const HYPER_THREADING: u32 = 1 << 28;
/// Leaf 0x8000_0001 ECX: legacy multi-core, and topology extensions.
const AMD_CMP_LEGACY: u32 = 1 << 1;

/// Gives the entries the shape of a machine with one processor, local APIC id 0.
pub(crate) fn shape(entries: &mut [kvm_cpuid_entry2], tsc_deadline: bool) {
    for entry in entries {
        match entry.function {
            0x1 => {
                entry.ecx |= HYPERVISOR;
                entry.ecx = (entry.ecx & !TSC_DEADLINE) | if tsc_deadline { TSC_DEADLINE } else { 0 };
                entry.edx &= !HYPER_THREADING;
                // Bits 31:24 local APIC id, 23:16 logical processors; 15:8 (cache line) and 7:0 (brand) stay.
                entry.ebx = (entry.ebx & 0xffff) | 1 << 16;
            }
            // Cache parameters: cores per package (31:26) and threads sharing the cache (25:14), both minus one.
            0x4 | 0x8000_001d => entry.eax &= 0x3fff,
            // Extended topology: level 0 is one thread, level 1 one core; EDX is the x2APIC id.
            0xb | 0x1f => {
                let level_type = if entry.index < 2 { entry.index + 1 } else { 0 };
                entry.eax = 0;
                entry.ebx = u32::from(entry.index < 2);
                entry.ecx = entry.index | level_type << 8;
                entry.edx = 0;
            }
            0x8000_0001 => entry.ecx &= !AMD_CMP_LEGACY,
            // Number of threads minus one, and the width of the APIC id.
            0x8000_0008 => entry.ecx &= !0xf0ff,
            // Extended APIC id, compute unit, node.
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (0, 0, 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(entry: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
        let mut entries = [entry];
        shape(&mut entries, true);
        entries[0]
    }

    #[test]
    fn leaf_one_is_one_processor_under_a_hypervisor() {
        let entry =
            shaped(kvm_cpuid_entry2 { function: 1, ebx: 0x0310_0800, edx: u32::MAX, ..Default::default() });
        assert_eq!(entry.ebx, 0x0001_0800);
        assert_eq!(entry.ecx, HYPERVISOR | TSC_DEADLINE);
        assert_eq!(entry.edx & HYPER_THREADING, 0);
    }

    #[test]
    fn topology_is_one_thread_of_one_core() {
        let leaf = |index| shaped(kvm_cpuid_entry2 { function: 0xb, index, edx: 3, ..Default::default() });
        assert_eq!((leaf(0).ebx, leaf(0).ecx, leaf(0).edx), (1, 0x100, 0));
        assert_eq!((leaf(1).ebx, leaf(1).ecx), (1, 0x201));
        assert_eq!((leaf(2).ebx, leaf(2).ecx), (0, 2));
    }

    #[test]
    fn kvms_own_leaves_are_kept() {
        let clock = kvm_cpuid_entry2 { function: 0x4000_0001, eax: 0x0100_00fb, ..Default::default() };
        assert_eq!(shaped(clock).eax, clock.eax);
    }
}
