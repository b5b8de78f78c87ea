//! `struct boot_params`, the "zero page" of the Linux boot protocol: memory map, command line, initrd.
//! Documentation/x86/zero-page.rst and boot.rst.

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::initrd::Initrd;
use crate::memory::GuestMemory;
use crate::memory::layout::{self, RamRange};

/// e820 type of usable memory.
const E820_RAM: u32 = 1;
/// e820 type of memory to keep away from.
const E820_RESERVED: u32 = 2;
/// A boot loader without an assigned number.
const LOADER_OTHER: u8 = 0xff;

/// The first page, which no kernel uses as RAM. Not to offer it saves the entry that it would make of it: each entry is
/// looked at some thousand times while the kernel maps memory.
const FIRST_PAGE: u64 = 4096;
/// Areas with tables that a guest with ACPI keeps away from: start and length. For one without, it is enough that they
/// are not RAM.
const RESERVED: [(u64, u64); 2] = [
    (layout::MP_POINTER, 0xa_0000 - layout::MP_POINTER),
    (layout::ACPI_TABLES, layout::HIGH_RAM - layout::ACPI_TABLES),
];

/// Writes the zero page for a kernel with the setup `header` of its bzImage, if it came in one. `root_pointer` is the
/// address of ACPI's, 0 for none.
pub(super) fn write_to(
    memory: &GuestMemory,
    ram: &[RamRange],
    header: Option<&setup_header>,
    cmdline_len: usize,
    initrd: Option<Initrd>,
    root_pointer: u64,
) -> Result<(), GuestMemoryError> {
    let params = boot_parameters(ram, header, cmdline_len, initrd, root_pointer);
    memory.write_obj(params, GuestAddress(layout::ZERO_PAGE))
}

fn boot_parameters(
    ram: &[RamRange],
    header: Option<&setup_header>,
    cmdline_len: usize,
    initrd: Option<Initrd>,
    root_pointer: u64,
) -> boot_params {
    let mut params = boot_params { hdr: header.copied().unwrap_or_default(), ..boot_params::default() };
    params.acpi_rsdp_addr = root_pointer;
    let hdr = &mut params.hdr;
    if header.is_none() {
        hdr.boot_flag = 0xaa55;
        hdr.header = 0x5372_6448; // "HdrS"
        hdr.kernel_alignment = 0x100_0000;
        hdr.cmdline_size = u32::try_from(cmdline_len).unwrap_or_default();
    }
    hdr.type_of_loader = LOADER_OTHER;
    hdr.cmd_line_ptr = u32::try_from(layout::CMDLINE).expect("the command line is below 1 MiB");
    if let Some(initrd) = initrd {
        hdr.ramdisk_image = initrd.address;
        hdr.ramdisk_size = initrd.len;
    }
    let usable = ram.iter().map(|range| {
        let base = range.base.max(FIRST_PAGE);
        (base, range.len - (base - range.base), E820_RAM)
    });
    let reserved = RESERVED.map(|(base, len)| (base, len, E820_RESERVED));
    let map = usable.chain(reserved.into_iter().filter(|_| root_pointer != 0));
    let mut entries = 0;
    for (slot, (addr, size, kind)) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry { addr, size, r#type: kind };
        entries += 1;
    }
    params.e820_entries = entries;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_initrd_and_command_line_are_announced() {
        let ram = layout::usable_ram(4096 * layout::MIB);
        let initrd = Some(Initrd { address: 0x700_0000, len: 99 });
        let params = boot_parameters(&ram, None, 20, initrd, layout::ACPI_TABLES);
        let (image, size, cmdline) =
            (params.hdr.ramdisk_image, params.hdr.ramdisk_size, params.hdr.cmd_line_ptr);
        assert_eq!((image, size, cmdline), (0x700_0000, 99, 0x2_0000));
        assert_eq!(params.e820_entries, 5);
        let types: Vec<u32> = params.e820_table[..5].iter().map(|e| e.r#type).collect();
        assert_eq!(types, [E820_RAM, E820_RAM, E820_RAM, E820_RESERVED, E820_RESERVED]);
    }

    #[test]
    fn without_acpi_there_is_nothing_but_ram_in_the_memory_map() {
        let ram = layout::usable_ram(256 * layout::MIB);
        let params = boot_parameters(&ram, None, 20, None, 0);
        let map = params.e820_table.map(|entry| (entry.addr, entry.addr + entry.size, entry.r#type));
        let (first, second) =
            ((4096, layout::MP_POINTER, E820_RAM), (layout::HIGH_RAM, 256 * layout::MIB, E820_RAM));
        assert_eq!((params.e820_entries, map[0], map[1]), (2, first, second));
    }

    #[test]
    fn the_header_of_a_bzimage_is_handed_on() {
        let header = setup_header { init_size: 0x1234, ..setup_header::default() };
        let params = boot_parameters(&[], Some(&header), 0, None, 0);
        let (init_size, loader) = (params.hdr.init_size, params.hdr.type_of_loader);
        assert_eq!((init_size, loader), (0x1234, LOADER_OTHER));
    }
}
