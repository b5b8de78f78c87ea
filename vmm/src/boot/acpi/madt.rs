//! The table of processors and interrupt controllers: local APICs, one I/O APIC, and what the local inputs do.
//! ACPI 6.5, section 5.2.12. Inputs of the I/O APIC are numbered as ISA interrupts are, so nothing is overridden.

use acpi_tables::sdt::Sdt;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE};
use crate::boot::mp_table;
use crate::memory::layout;

/// Length of the header that all tables have, and of the two fields that follow it.
const HEADER_LEN: u32 = 36;
const FIELDS_LEN: u32 = 8;
/// Revision of the table that knows x2APIC and flags "online capable".
const REVISION: u8 = 5;
/// Kinds of entries.
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const LOCAL_APIC_NMI: u8 = 4;
const LOCAL_X2APIC: u8 = 9;
/// A processor that is there.
const ENABLED: u32 = 1;
/// APIC ids from here on need an x2APIC entry.
const FIRST_WIDE_ID: u32 = 255;

/// The table for `cpus` processors, whose APIC ids count from 0.
pub(super) fn table(cpus: u32) -> Vec<u8> {
    let mut table = Sdt::new(*b"APIC", HEADER_LEN + FIELDS_LEN, REVISION, OEM_ID, OEM_TABLE, OEM_REVISION);
    table.write_bytes(HEADER_LEN as usize, &layout::LAPIC.to_le_bytes());
    for id in 0..cpus {
        table.append_slice(&processor(id));
    }
    table.append_slice(&io_apic(mp_table::io_apic_id(cpus)));
    table.append_slice(&local_nmi());
    table.as_slice().to_vec()
}

fn processor(id: u32) -> Vec<u8> {
    match u8::try_from(id) {
        Ok(narrow) if id < FIRST_WIDE_ID => {
            [&[LOCAL_APIC, 8, narrow, narrow][..], &ENABLED.to_le_bytes()].concat()
        }
        _ => [&[LOCAL_X2APIC, 16, 0, 0][..], &[id, ENABLED, id].map(u32::to_le_bytes).concat()].concat(),
    }
}

fn io_apic(id: u8) -> Vec<u8> {
    let first_interrupt = 0u32;
    [&[IO_APIC, 12, id, 0][..], &layout::IOAPIC.to_le_bytes(), &first_interrupt.to_le_bytes()].concat()
}

/// LINT1 of all processors is the NMI, its polarity and trigger mode as the bus has them.
fn local_nmi() -> [u8; 6] {
    [LOCAL_APIC_NMI, 6, 0xff, 0, 0, 1]
}
