//! What the guest's CPUID instruction says: what KVM supports, in a machine of our own shape: one package, each
//! processor a core with one thread, first caches of its own and the last one shared. Each engine hides from that what it
//! lacks.
//!
//! Intel SDM volume 2A "CPUID", AMD APM volume 3 appendix E; KVM's own leaves from 0x4000_0000 (paravirtual clock and
//! the like) are kept as KVM gives them.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1 ECX: the TSC-deadline timer mode of the local APIC.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor in the package.
const HYPER_THREADING: u32 = 1 << 28;
/// Leaf 0x8000_0001 ECX: the processors of a package are cores, not threads.
const AMD_CMP_LEGACY: u32 = 1 << 1;
/// Extended topology, the second with more kinds of levels than the first.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// AMD's extended topology: the others say the same.
const AMD_TOPOLOGY: u32 = 0x8000_0026;
/// Kinds of levels in the extended topology.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;
/// Caches of this level and beyond are shared by all cores.
const SHARED_CACHE: u32 = 3;

/// Which processor of which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its local APIC id.
    pub(crate) id: u32,
    /// Processors in the machine, which have ids from 0.
    pub(crate) cpus: u32,
}

impl Place {
    /// The only processor of a machine.
    pub(crate) const ALONE: Self = Self { id: 0, cpus: 1 };

    /// Bits of an APIC id that tell processors apart.
    fn id_bits(self) -> u32 {
        self.cpus.max(1).next_power_of_two().trailing_zeros()
    }

    /// APIC ids that these bits can be, minus one, in a field with at most `max`.
    fn last_id(self, max: u32) -> u32 {
        ((1 << self.id_bits()) - 1).min(max)
    }

    /// Bits 25:14 of a cache's EAX, those that share it minus one, for the level in bits 7:5.
    fn sharing(self, eax: u32) -> u32 {
        if eax >> 5 & 7 >= SHARED_CACHE { self.last_id(0xfff) << 14 } else { 0 }
    }
}

/// What a processor at `place` says, of what KVM supports.
pub(crate) fn of_processor(
    supported: &[kvm_cpuid_entry2],
    place: Place,
    tsc_deadline: bool,
) -> Vec<kvm_cpuid_entry2> {
    let highest = supported.iter().find(|entry| entry.function == 0).map_or(0, |entry| entry.eax);
    let rebuilt =
        |entry: &&kvm_cpuid_entry2| !TOPOLOGY.contains(&entry.function) && entry.function != AMD_TOPOLOGY;
    let mut entries: Vec<_> = supported.iter().filter(rebuilt).copied().collect();
    entries.iter_mut().for_each(|entry| shape(entry, place, tsc_deadline));
    for function in TOPOLOGY.into_iter().filter(|function| *function <= highest) {
        entries.extend(topology(function, place));
    }
    entries
}

/// Gives one entry the machine's shape.
fn shape(entry: &mut kvm_cpuid_entry2, place: Place, tsc_deadline: bool) {
    let several = place.cpus > 1;
    match entry.function {
        0x1 => {
            entry.ecx |= HYPERVISOR;
            set(&mut entry.ecx, TSC_DEADLINE, tsc_deadline);
            set(&mut entry.edx, HYPER_THREADING, several);
            // Bits 31:24 local APIC id, 23:16 logical processors; 15:8 (cache line) and 7:0 (brand) stay.
            entry.ebx = entry.ebx & 0xffff | place.cpus.min(255) << 16 | (place.id & 0xff) << 24;
        }
        // Cache parameters; on Intel also cores per package (31:26) minus one.
        0x4 if entry.eax & 0x1f != 0 => {
            entry.eax = entry.eax & 0x3fff | place.sharing(entry.eax) | place.last_id(63) << 26;
        }
        0x8000_001d => entry.eax = entry.eax & 0x3fff | place.sharing(entry.eax),
        0x8000_0001 => set(&mut entry.ecx, AMD_CMP_LEGACY, several),
        // Number of processors minus one, and how many bits of the APIC id tell them apart.
        0x8000_0008 => {
            entry.ecx = entry.ecx & !0xf0ff | (place.cpus - 1).min(255) | place.id_bits().min(15) << 12;
        }
        // Extended APIC id; core, of one thread; node, the only one.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (place.id, place.id & 0xff, 0),
        _ => {}
    }
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !bit | if on { bit } else { 0 };
}

/// The levels of an extended topology leaf: threads of a core, cores of the package, the end. EAX says by how many bits
/// to shift an id to get that of the next level, EBX how many processors there are in the level, EDX is the x2APIC id.
fn topology(function: u32, place: Place) -> [kvm_cpuid_entry2; 3] {
    let level = |index, kind: u32, eax, ebx| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | kind << 8,
        edx: place.id,
        ..Default::default()
    };
    [level(0, LEVEL_THREAD, 0, 1), level(1, LEVEL_CORE, place.id_bits(), place.cpus), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests;
