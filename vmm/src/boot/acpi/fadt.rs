//! The fixed description table: how to reset and to power off, and which old PC devices are absent. ACPI 6.5, section
//! 5.2.9.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE, bytes};
use crate::legacy::{i8042, power};

/// Boot architecture flags: there is no VGA (2), no CMOS clock (5). Neither legacy devices (0) nor a keyboard (1) are
/// worth looking for.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 5;

/// The table, pointing to the definition block at `dsdt`.
pub(super) fn table(dsdt: u64) -> Vec<u8> {
    let mut table = FADTBuilder::new(OEM_ID, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Wbinvd)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    table.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    table.reset_reg = port(i8042::PORTS + i8042::COMMAND);
    table.reset_value = i8042::PULSE_RESET;
    table.sleep_control_reg = port(power::PORTS + power::CONTROL);
    table.sleep_status_reg = port(power::PORTS + power::STATUS);
    table.hypervisor_vendor_identity = u64::from_le_bytes(*b"CARVE   ").into();
    bytes(&table.finalize())
}

/// A register of one byte at an I/O port.
fn port(address: u64) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
}
