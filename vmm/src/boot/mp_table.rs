//! The table that tells a guest without ACPI about its processor and interrupt controller: one CPU, one I/O
//! APIC, the ISA interrupts one to one. Intel MultiProcessor Specification 1.4, chapter 4.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::memory::{GuestMemory, layout};

const POINTER_LEN: u64 = 16;
const IOAPIC_ID: u8 = 1;
const APIC_VERSION: u8 = 0x14;
/// The processor is usable, and the one that boots.
const CPU_ENABLED_BOOT: u8 = 0b11;
/// Entry kinds.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// Interrupt kinds of local and I/O interrupt entries.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

/// Writes the floating pointer and the table behind it, below the VGA hole where kernels look.
pub(super) fn write_to(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    let mut bytes = pointer();
    bytes.extend(table());
    memory.write_slice(&bytes, GuestAddress(layout::MP_TABLE))
}

fn pointer() -> Vec<u8> {
    let table = u32::try_from(layout::MP_TABLE + POINTER_LEN).expect("the table is below 1 MiB");
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(table.to_le_bytes());
    bytes.extend([1, 4, 0, 0, 0, 0, 0, 0]); // one paragraph, revision 1.4, checksum, features
    set_checksum(&mut bytes, 10);
    bytes
}

fn table() -> Vec<u8> {
    let entries = entries();
    let mut bytes = b"PCMP".to_vec();
    bytes.extend([0, 0, 4, 0]); // length to come, revision 1.4, checksum to come
    bytes.extend(b"CARVE   CARVE-VM    "); // maker, product
    bytes.extend([0; 6]); // no OEM table
    let count = u16::try_from(entries.len()).expect("about 30 entries");
    bytes.extend(count.to_le_bytes());
    bytes.extend(layout::LAPIC.to_le_bytes());
    bytes.extend([0; 4]); // no extended table
    bytes.extend(entries.concat());
    let len = u16::try_from(bytes.len()).expect("about 300 bytes");
    bytes[4..6].copy_from_slice(&len.to_le_bytes());
    set_checksum(&mut bytes, 7);
    bytes
}

fn entries() -> Vec<Vec<u8>> {
    let mut processor = vec![PROCESSOR, 0, APIC_VERSION, CPU_ENABLED_BOOT];
    processor.extend(0x600u32.to_le_bytes()); // signature; kernels ask CPUID instead
    processor.extend(0x201u32.to_le_bytes()); // has FPU and APIC
    processor.extend([0; 8]);
    let mut io_apic = vec![IO_APIC, IOAPIC_ID, 0x11, 1];
    io_apic.extend(layout::IOAPIC.to_le_bytes());
    let mut entries = vec![processor, [&[BUS, 0][..], b"ISA   "].concat(), io_apic];
    let inputs = u8::try_from(layout::IOAPIC_INPUTS).expect("24 inputs");
    entries.extend((0..inputs).map(|irq| vec![IO_INTERRUPT, INT, 0, 0, 0, irq, IOAPIC_ID, irq]));
    entries.push(vec![LOCAL_INTERRUPT, EXT_INT, 0, 0, 0, 0, 0, 0]);
    entries.push(vec![LOCAL_INTERRUPT, NMI, 0, 0, 0, 0, 0xff, 1]);
    entries
}

/// Makes the sum of all bytes zero by the byte at `at`.
fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = bytes[at].wrapping_sub(sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn checksums_and_lengths_agree() {
        assert_eq!((pointer().len(), sum(&pointer())), (16, 0));
        let table = table();
        assert_eq!(sum(&table), 0);
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        // 44 bytes of header; a processor takes 20 bytes, everything else 8.
        let count = usize::from(u16::from_le_bytes([table[34], table[35]]));
        assert_eq!(table.len(), 44 + 20 + (count - 1) * 8);
    }

    #[test]
    fn it_fits_between_usable_ram_and_the_vga_hole() {
        assert!(layout::MP_TABLE + POINTER_LEN + table().len() as u64 <= 0xa_0000);
    }
}
