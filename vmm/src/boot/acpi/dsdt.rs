//! The definition block: the devices that no bus enumerates, and sleep state S5.
//!
//! - `V000`, …: a virtio-mmio window each (`LNRO0005`, kernel: drivers/virtio/virtio_mmio.c);
//! - `COM1`: the serial port, if there is one;
//! - `VGEN`: where the generation id is (Microsoft, "Virtual Machine Generation ID");
//! - `GED`: the interrupt that says that the generation id has changed (ACPI 6.5, section 5.6.9).

use acpi_tables::Aml;
use acpi_tables::aml::{
    Arg, Device, EISAName, Equal, IO, If, Interrupt, Memory32Fixed, Method, Name, Notify, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE, bytes};
use crate::boot::Hardware;
use crate::legacy::{power, serial};
use crate::memory::layout;

/// Length of the header that all tables have.
const HEADER_LEN: u32 = 36;
/// Revision 2: integers have 64 bits.
const REVISION: u8 = 2;
/// What a notification of the generation device means: it has changed.
const CHANGED: u8 = 0x80;

/// The table for a machine with `hardware`.
pub(super) fn table(hardware: &Hardware) -> Vec<u8> {
    let mut devices = Vec::new();
    if hardware.serial {
        devices.extend(serial_port());
    }
    for (number, (base, irq)) in (0u32..).zip(&hardware.virtio) {
        devices.extend(virtio_window(number, *base, *irq));
    }
    devices.extend(generation_id());
    devices.extend(event_device());
    let mut table = Sdt::new(*b"DSDT", HEADER_LEN, REVISION, OEM_ID, OEM_TABLE, OEM_REVISION);
    table.append_slice(&Scope::raw(Path::new("\\_SB_"), devices));
    table.append_slice(&power_off());
    table.as_slice().to_vec()
}

fn serial_port() -> Vec<u8> {
    let (ports, len) = (narrow(serial::PORTS), narrow(serial::PORTS_LEN));
    let ports = IO::new(ports, ports, 1, u8::try_from(len).unwrap_or(u8::MAX));
    let interrupt = edge(serial::IRQ);
    device(
        "COM1",
        &[
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt])),
        ],
    )
}

fn virtio_window(number: u32, base: u64, irq: u32) -> Vec<u8> {
    let base = u32::try_from(base).expect("windows are below 4 GiB");
    let len = u32::try_from(layout::VIRTIO_MMIO_LEN).expect("a window is a page");
    let (window, interrupt) = (Memory32Fixed::new(true, base, len), edge(irq));
    device(
        &format!("V{number:03X}"),
        &[
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &number),
            &Name::new("_CCA".into(), &1u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&window, &interrupt])),
        ],
    )
}

fn generation_id() -> Vec<u8> {
    let low = u32::try_from(layout::GENERATION_ID).expect("it is below 1 MiB");
    device(
        "VGEN",
        &[
            &Name::new("_HID".into(), &"QEMUVGID"),
            // The id of Microsoft's text is longer than ACPI allows, so there is a shorter one besides.
            &Name::new("_CID".into(), &Package::new(vec![&"VM_Gen_Counter", &"VMGENCTR"])),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("ADDR".into(), &Package::new(vec![&low, &0u8])),
        ],
    )
}

fn event_device() -> Vec<u8> {
    let (irq, interrupt) = (layout::GENERATION_IRQ, edge(layout::GENERATION_IRQ));
    let (is_ours, which) = (Arg(0), Path::new("\\_SB_.VGEN"));
    let notify = Notify::new(&which, &CHANGED);
    let event = Equal::new(&is_ours, &irq);
    device(
        "GED_",
        &[
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&interrupt])),
            &Method::new("_EVT".into(), 1, true, vec![&If::new(&event, vec![&notify])]),
        ],
    )
}

/// `_S5_`: the sleep type that powers off.
fn power_off() -> Vec<u8> {
    bytes(&Name::new("_S5_".into(), &Package::new(vec![&power::SLEEP_TYPE_OFF])))
}

/// An interrupt as all of ours are: edge-triggered, active high, not shared.
fn edge(number: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, number)
}

fn device(name: &str, children: &[&dyn Aml]) -> Vec<u8> {
    bytes(&Device::new(name.into(), children.to_vec()))
}

fn narrow(port: u64) -> u16 {
    u16::try_from(port).expect("I/O ports have 16 bits")
}
