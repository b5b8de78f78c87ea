//! The ACPI tables: how a distribution's kernel learns of processors, devices and how to power off.
//!
//! ```text
//! RSDP ─► XSDT ─┬─► FADT ─► DSDT    devices and what they take, in AML
//!               └─► MADT            processors and interrupt controllers
//! ```
//!
//! The hardware-reduced profile (ACPI 6.5, section 4.1): there is none of the fixed hardware of a PC, no SCI and no
//! PM timer. Events come from a generic event device, and sleep state S5 is a write to one port
//! ([`crate::legacy::power`]). Everything lies in the reserved area below 1 MiB where kernels search for it.

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Hardware;
use crate::memory::{GuestMemory, layout};

/// Who made the tables, in each of them.
const OEM_ID: [u8; 6] = *b"CARVE ";
const OEM_TABLE: [u8; 8] = *b"CARVE-VM";
const OEM_REVISION: u32 = 1;
/// Tables start at such addresses.
const ALIGNMENT: usize = 16;

/// Writes the tables for a machine with `hardware`.
///
/// # Errors
/// The guest's memory is too small for them.
pub(super) fn write_to(memory: &GuestMemory, hardware: &Hardware) -> Result<(), GuestMemoryError> {
    memory.write_slice(&tables(hardware), GuestAddress(layout::ACPI_TABLES))
}

/// The tables as they lie from [`layout::ACPI_TABLES`] on, the root pointer first.
fn tables(hardware: &Hardware) -> Vec<u8> {
    let mut area = vec![0; Rsdp::len()];
    let dsdt = append(&mut area, &dsdt::table(hardware));
    let fadt = append(&mut area, &fadt::table(dsdt));
    let madt = append(&mut area, &madt::table(hardware.cpus));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE, OEM_REVISION);
    for table in [fadt, madt] {
        xsdt.add_entry(table);
    }
    let xsdt = append(&mut area, &bytes(&xsdt));
    for (byte, pointer) in area.iter_mut().zip(bytes(&Rsdp::new(OEM_ID, xsdt))) {
        *byte = pointer;
    }
    area
}

/// Puts `table` behind what is in `area` and says at which guest physical address it is.
fn append(area: &mut Vec<u8>, table: &[u8]) -> u64 {
    area.resize(area.len().next_multiple_of(ALIGNMENT), 0);
    let address = layout::ACPI_TABLES + area.len() as u64;
    area.extend_from_slice(table);
    address
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
