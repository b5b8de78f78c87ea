//! The tables as a kernel reads them: by pointers, lengths and checksums; and as ACPI's own compiler does.

use std::process::Command;

use expect_test::expect;

use super::*;

fn hardware(cpus: u32) -> Hardware {
    let virtio = vec![(layout::VIRTIO_MMIO, 5), (layout::VIRTIO_MMIO + 0x1000, 6)];
    Hardware { acpi: true, cpus, pic: true, serial: true, virtio }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at guest physical `address`, by its own length, its checksum looked at.
fn table_at(area: &[u8], address: u64) -> &[u8] {
    let at = usize::try_from(address - layout::ACPI_TABLES).unwrap();
    let len = usize::try_from(u32_at(area, at + 4)).unwrap();
    let table = &area[at..at + len];
    assert_eq!(sum(table), 0, "checksum of {:?}", std::str::from_utf8(&table[..4]));
    table
}

/// The tables that the root pointer leads to: FADT, MADT and DSDT.
fn walk(area: &[u8]) -> [&[u8]; 3] {
    assert_eq!(&area[..8], b"RSD PTR ");
    assert_eq!((sum(&area[..20]), sum(&area[..36])), (0, 0));
    let xsdt = table_at(area, u64_at(area, 24));
    let entries: Vec<_> = xsdt[36..].chunks(8).map(|entry| table_at(area, u64_at(entry, 0))).collect();
    let [fadt, madt] = entries[..] else { panic!("{} tables", entries.len()) };
    assert_eq!((&xsdt[..4], &fadt[..4], &madt[..4]), (&b"XSDT"[..], &b"FACP"[..], &b"APIC"[..]));
    let dsdt = table_at(area, u64_at(fadt, 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    [fadt, madt, dsdt]
}

#[test]
fn the_root_pointer_leads_to_all_tables() {
    for cpus in [1, 2, 64, 1000] {
        let area = tables(&hardware(cpus));
        walk(&area);
        assert!(layout::ACPI_TABLES + area.len() as u64 <= layout::GENERATION_ID, "{cpus} processors");
    }
}

#[test]
fn the_most_devices_fit() {
    let virtio = (0..24).map(|i| (layout::VIRTIO_MMIO + u64::from(i) * 0x1000, i)).collect();
    let area = tables(&Hardware { virtio, ..hardware(254) });
    assert!(layout::ACPI_TABLES + area.len() as u64 <= layout::GENERATION_ID);
    let windows = walk(&area)[2].windows(8).filter(|bytes| bytes == b"LNRO0005").count();
    assert_eq!(windows, 24);
}

#[test]
fn reset_and_power_off_are_one_write_each() {
    let area = tables(&hardware(1));
    let [fadt, _, dsdt] = walk(&area);
    // Flags: HW_REDUCED_ACPI (20) and RESET_REG_SUP (10).
    assert_eq!(u32_at(fadt, 112) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    // System I/O, 8 bits, byte access, port; and the value for reset.
    assert_eq!((&fadt[116..120], u64_at(fadt, 120), fadt[128]), (&[1, 8, 0, 1][..], 0x64, 0xfe));
    assert_eq!((u64_at(fadt, 248), u64_at(fadt, 260)), (0x600, 0x601));
    let state = dsdt.windows(4).position(|name| name == b"_S5_").unwrap();
    assert_eq!(dsdt[state + 4..], [0x12, 4, 1, 0x0a, 5]);
}

#[test]
fn processors_are_local_apics_and_beyond_254_x2apics() {
    let area = tables(&hardware(2));
    let entries: String = walk(&area)[1][36..].iter().map(|byte| format!("{byte:02x} ")).collect();
    expect!["00 00 e0 fe 00 00 00 00 00 08 00 00 01 00 00 00 00 08 01 01 01 00 00 00 01 0c 02 00 00 00 c0 fe 00 00 00 00 04 06 ff 00 00 01 "].assert_eq(&entries);
    let area = tables(&hardware(256));
    let madt = walk(&area)[1];
    // 254 × 8 bytes after the fields: id 255 follows.
    let last = &madt[44 + 255 * 8..44 + 255 * 8 + 16];
    assert_eq!(last, [9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0]);
}

#[test]
fn a_machine_without_serial_port_has_none_in_its_tables() {
    let has = |serial| {
        let area = tables(&Hardware { serial, ..hardware(1) });
        walk(&area)[2].windows(4).any(|name| name == b"COM1")
    };
    assert!(has(true) && !has(false));
}

#[test]
fn acpis_own_compiler_reads_the_definition_block() {
    let dir = tempfile::tempdir().unwrap();
    let area = tables(&hardware(1));
    std::fs::write(dir.path().join("dsdt.aml"), walk(&area)[2]).unwrap();
    let disassembled = Command::new("iasl").args(["-d", "dsdt.aml"]).current_dir(dir.path()).output();
    let Ok(output) = disassembled else {
        eprintln!("skipped: iasl is not installed (Debian: acpica-tools)");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(dir.path().join("dsdt.dsl")).unwrap();
    let text = text.split_once("DefinitionBlock").unwrap().1;
    expect![[r#"
         ("", "DSDT", 2, "CARVE ", "CARVE-VM", 0x00000001)
        {
            Scope (\_SB)
            {
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501") /* 16550A-compatible COM Serial Port */)  // _HID: Hardware ID
                    Name (_UID, Zero)  // _UID: Unique ID
                    Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
                    {
                        IO (Decode16,
                            0x03F8,             // Range Minimum
                            0x03F8,             // Range Maximum
                            0x01,               // Alignment
                            0x08,               // Length
                            )
                        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                        {
                            0x00000004,
                        }
                    })
                }

                Device (V000)
                {
                    Name (_HID, "LNRO0005")  // _HID: Hardware ID
                    Name (_UID, Zero)  // _UID: Unique ID
                    Name (_CCA, One)  // _CCA: Cache Coherency Attribute
                    Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
                    {
                        Memory32Fixed (ReadWrite,
                            0xD0000000,         // Address Base
                            0x00001000,         // Address Length
                            )
                        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                        {
                            0x00000005,
                        }
                    })
                }

                Device (V001)
                {
                    Name (_HID, "LNRO0005")  // _HID: Hardware ID
                    Name (_UID, One)  // _UID: Unique ID
                    Name (_CCA, One)  // _CCA: Cache Coherency Attribute
                    Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
                    {
                        Memory32Fixed (ReadWrite,
                            0xD0001000,         // Address Base
                            0x00001000,         // Address Length
                            )
                        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                        {
                            0x00000006,
                        }
                    })
                }

                Device (VGEN)
                {
                    Name (_HID, "QEMUVGID")  // _HID: Hardware ID
                    Name (_CID, Package (0x02)  // _CID: Compatible ID
                    {
                        "VM_Gen_Counter", 
                        "VMGENCTR"
                    })
                    Name (_DDN, "VM_Gen_Counter")  // _DDN: DOS Device Name
                    Name (ADDR, Package (0x02)
                    {
                        0x000EF000, 
                        Zero
                    })
                }

                Device (GED)
                {
                    Name (_HID, "ACPI0013" /* Generic Event Device */)  // _HID: Hardware ID
                    Name (_UID, Zero)  // _UID: Unique ID
                    Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
                    {
                        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                        {
                            0x00000017,
                        }
                    })
                    Method (_EVT, 1, Serialized)  // _EVT: Event
                    {
                        If ((Arg0 == 0x17))
                        {
                            Notify (\_SB.VGEN, 0x80) // Status Change
                        }
                    }
                }
            }

            Name (_S5, Package (0x01)  // _S5_: S5 System State
            {
                0x05
            })
        }

    "#]].assert_eq(text);
}
