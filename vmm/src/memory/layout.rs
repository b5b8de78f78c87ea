//! Where everything is in the guest's physical address space.
//!
//! ```text
//! 0x0000_0500  GDT                        0x0000_7000  boot_params ("zero page")
//! 0x0000_6000  PVH start info             0x0000_9000  page tables: PML4, PDPT, PD
//! 0x0002_0000  kernel command line        0x0009_fc00  pointer to the MP table (reserved in e820)
//! 0x000e_0000  ACPI tables                0x000e_f000  generation id, 0x000f_0000 MP table (reserved in e820)
//! 0x0010_0000  kernel … initrd … end of low RAM
//! 0xc000_0000  gap of 1 GiB for memory-mapped I/O:
//!   0xd000_0000  virtio-mmio windows, 4 KiB each
//!   0xfec0_0000  IOAPIC, 0xfee0_0000 LAPIC, 0xfffb_c000 pages KVM needs on old Intel CPUs
//! 0x1_0000_0000  the rest of RAM, then the images of virtio-pmem devices, each at a multiple of 128 MiB
//! ```

use serde::Serialize;

/// One MiB in bytes.
pub const MIB: u64 = 1 << 20;

/// The global descriptor table that the vCPU starts with.
pub const GDT: u64 = 0x500;
/// PVH start info, its module list and memory map.
pub const PVH_START_INFO: u64 = 0x6000;
/// `struct boot_params` of the Linux boot protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// Initial stack pointer, below the page tables.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Level-4 page table of the 64-bit start; the two lower levels follow it.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes kept for the command line, terminating zero included.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// End of RAM below the VGA hole, and the pointer to the MP table: in the last KiB of base memory, where kernels look.
pub const MP_POINTER: u64 = 0x9_fc00;
/// ACPI tables, the root pointer first: the start of the area where kernels look for it.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Page of the generation id, the last that belongs to the ACPI tables.
pub const GENERATION_ID: u64 = 0xe_f000;
/// The MP table, as long as it needs to be for all processors.
pub const MP_TABLE: u64 = 0xf_0000;
/// Where RAM goes on above the VGA and BIOS hole; kernels load from here upward.
pub const HIGH_RAM: u64 = 0x10_0000;

/// Start of the gap in RAM that memory-mapped devices use.
pub const MMIO_GAP: u64 = 0xc000_0000;
/// End of that gap; RAM goes on here.
pub const MMIO_GAP_END: u64 = 0x1_0000_0000;
/// First virtio-mmio window.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Length of one virtio-mmio window.
pub const VIRTIO_MMIO_LEN: u64 = 0x1000;
/// I/O APIC registers.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LAPIC: u32 = 0xfee0_0000;
/// Page for KVM's identity map, followed by the three pages of its TSS.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM's TSS.
pub const KVM_TSS: u64 = 0xfffb_d000;

/// First interrupt line of virtio devices; 0 to 4 belong to timer, keyboard, cascade and serial ports.
pub const VIRTIO_IRQ: u32 = 5;
/// The interrupt that tells of a new generation id: the last input, as far from the virtio devices as can be.
pub const GENERATION_IRQ: u32 = 23;
/// Inputs of the I/O APIC.
pub const IOAPIC_INPUTS: u32 = 24;

/// The length of an image in guest memory is a multiple of this: Linux takes memory in no smaller units, and these can be
/// huge pages.
pub const PMEM_UNIT: u64 = 2 * MIB;
/// Images start at multiples of this, a section of Linux's map of memory: RAM and images share none.
const PMEM_ALIGNMENT: u64 = 128 * MIB;

/// A piece of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RamRange {
    /// Guest physical address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The RAM of a guest with `bytes` of it, split around the gap for memory-mapped I/O.
pub fn ram_ranges(bytes: u64) -> Vec<RamRange> {
    let low = bytes.min(MMIO_GAP);
    let mut ranges = vec![RamRange { base: 0, len: low }];
    if bytes > low {
        ranges.push(RamRange { base: MMIO_GAP_END, len: bytes - low });
    }
    ranges
}

/// The RAM that the guest may use as it likes: without the VGA and BIOS hole, where the tables are.
pub fn usable_ram(bytes: u64) -> Vec<RamRange> {
    let mut usable = vec![RamRange { base: 0, len: MP_POINTER }];
    for range in ram_ranges(bytes) {
        let base = range.base.max(HIGH_RAM);
        let end = range.base + range.len;
        if end > base {
            usable.push(RamRange { base, len: end - base });
        }
    }
    usable
}

/// Where images of these sizes lie in a guest with `ram` bytes of RAM. None of it is RAM for the guest to use.
pub fn pmem_ranges(ram: u64, sizes: impl IntoIterator<Item = u64>) -> Vec<RamRange> {
    let ram_end = ram_ranges(ram).last().map_or(0, |range| range.base + range.len);
    let mut base = ram_end.max(MMIO_GAP_END);
    let mut ranges = Vec::new();
    for size in sizes {
        base = base.next_multiple_of(PMEM_ALIGNMENT);
        let range = RamRange { base, len: size.next_multiple_of(PMEM_UNIT) };
        base += range.len;
        ranges.push(range);
    }
    ranges
}

/// Where the images begin in the VMM's mapping, which has neither gap nor alignment to 128 MiB.
pub fn images_offset(ram: u64) -> u64 {
    ram.next_multiple_of(PMEM_UNIT)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn show(ranges: &[RamRange]) -> String {
        ranges.iter().map(|r| format!("{:#011x}..{:#011x}\n", r.base, r.base + r.len)).collect()
    }

    #[test]
    fn small_ram_is_one_range() {
        expect![[r#"
            0x000000000..0x008000000
        "#]]
        .assert_eq(&show(&ram_ranges(128 * MIB)));
        assert_eq!(ram_ranges(3072 * MIB).len(), 1);
    }

    #[test]
    fn ram_over_three_gib_goes_on_above_the_gap() {
        expect![[r#"
            0x000000000..0x0c0000000
            0x100000000..0x140000000
        "#]]
        .assert_eq(&show(&ram_ranges(4096 * MIB)));
    }

    #[test]
    fn usable_ram_leaves_out_the_hole_below_one_mib() {
        expect![[r#"
            0x000000000..0x00009fc00
            0x000100000..0x0c0000000
            0x100000000..0x140000000
        "#]]
        .assert_eq(&show(&usable_ram(4096 * MIB)));
    }

    #[test]
    fn images_lie_above_all_ram_in_units_that_linux_takes() {
        expect![[r#"
            0x100000000..0x100200000
            0x108000000..0x110400000
            0x118000000..0x118200000
        "#]]
        .assert_eq(&show(&pmem_ranges(128 * MIB, [1, 130 * MIB + 4096, 2 * MIB])));
        expect![[r#"
            0x148000000..0x148200000
        "#]]
        .assert_eq(&show(&pmem_ranges(4097 * MIB, [2 * MIB])));
    }
}
