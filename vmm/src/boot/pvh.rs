//! The start info of the PVH boot protocol, version 1: command line, initrd as a module, memory map.
//! Xen: public/arch-x86/hvm/start_info.h.

use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::initrd::Initrd;
use crate::memory::GuestMemory;
use crate::memory::layout::{self, RamRange};

/// "xEn3" with the high bit of the first byte set.
const MAGIC: u32 = 0x336e_c578;
/// The module list and the memory map follow the start info in its page.
const MODULES: u64 = layout::PVH_START_INFO + 0x100;
const MEMORY_MAP: u64 = layout::PVH_START_INFO + 0x200;
/// Memory map type of RAM, as in e820.
const RAM: u32 = 1;

/// Writes the start info and what it points to. `root_pointer` is the address of ACPI's, 0 for none.
pub(super) fn write_to(
    memory: &GuestMemory,
    ram: &[RamRange],
    initrd: Option<Initrd>,
    root_pointer: u64,
) -> Result<(), GuestMemoryError> {
    let mut at = MEMORY_MAP;
    for range in ram {
        let entry = hvm_memmap_table_entry { addr: range.base, size: range.len, type_: RAM, reserved: 0 };
        memory.write_obj(entry, GuestAddress(at))?;
        at += size_of::<hvm_memmap_table_entry>() as u64;
    }
    if let Some(initrd) = initrd {
        let (paddr, size) = (u64::from(initrd.address), u64::from(initrd.len));
        memory.write_obj(hvm_modlist_entry { paddr, size, ..Default::default() }, GuestAddress(MODULES))?;
    }
    let info = hvm_start_info {
        magic: MAGIC,
        version: 1,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { MODULES } else { 0 },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: root_pointer,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: u32::try_from(ram.len()).unwrap_or_default(),
        ..Default::default()
    };
    memory.write_obj(info, GuestAddress(layout::PVH_START_INFO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map_guest_ram;

    #[test]
    fn the_start_info_points_to_memory_map_and_initrd() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let ram = layout::usable_ram(64 * layout::MIB);
        write_to(&memory, &ram, Some(Initrd { address: 0x30_0000, len: 7 }), layout::ACPI_TABLES).unwrap();
        let info: hvm_start_info = memory.read_obj(GuestAddress(layout::PVH_START_INFO)).unwrap();
        assert_eq!((info.magic, info.version, info.nr_modules, info.memmap_entries), (MAGIC, 1, 1, 2));
        assert_eq!(info.rsdp_paddr, layout::ACPI_TABLES);
        let module: hvm_modlist_entry = memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), (0x30_0000, 7));
        let last: hvm_memmap_table_entry = memory.read_obj(GuestAddress(info.memmap_paddr + 24)).unwrap();
        assert_eq!((last.addr, last.size), (layout::HIGH_RAM, 63 * layout::MIB));
    }
}
