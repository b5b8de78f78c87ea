//! The table that tells a guest without ACPI about its processors and interrupt controller: one I/O APIC, the ISA
//! interrupts one to one. Intel MultiProcessor Specification 1.4, chapter 4.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Hardware;
use crate::legacy::serial;
use crate::memory::{GuestMemory, layout};

/// Ids of 8 bits, of which the last means "all" and one is the I/O APIC's. More processors need ACPI.
const MOST_CPUS: u32 = 254;
const APIC_VERSION: u8 = 0x14;
/// The processor is usable; and it is the one that boots.
const CPU_ENABLED: u8 = 0b01;
const CPU_BOOTS: u8 = 0b10;
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

/// Interrupts of the PIC, which kernels expect where there is one, whether something is connected to them or not.
const PIC_INTERRUPTS: u32 = 16;

/// Writes the floating pointer, below the VGA hole where kernels look, and the table. Only interrupts that are used are
/// in it: for each one a kernel keeps a descriptor and some twenty files.
pub(super) fn write_to(memory: &GuestMemory, hardware: &Hardware) -> Result<(), GuestMemoryError> {
    memory.write_slice(&pointer(), GuestAddress(layout::MP_POINTER))?;
    memory.write_slice(&table(hardware.cpus, &interrupts(hardware)), GuestAddress(layout::MP_TABLE))
}

fn interrupts(hardware: &Hardware) -> Vec<u32> {
    let of_pic = (0..PIC_INTERRUPTS).filter(|_| hardware.pic);
    let of_serial_port = hardware.serial.then_some(serial::IRQ);
    let of_devices = hardware.virtio.iter().map(|(_, irq)| *irq);
    let mut all: Vec<_> = of_pic.chain(of_serial_port).chain(of_devices).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The id of the I/O APIC: the one behind the processors'.
pub(super) fn io_apic_id(cpus: u32) -> u8 {
    u8::try_from(cpus).unwrap_or(u8::MAX)
}

fn pointer() -> Vec<u8> {
    let table = u32::try_from(layout::MP_TABLE).expect("the table is below 1 MiB");
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(table.to_le_bytes());
    bytes.extend([1, 4, 0, 0, 0, 0, 0, 0]); // one paragraph, revision 1.4, checksum, features
    set_checksum(&mut bytes, 10);
    bytes
}

fn table(cpus: u32, interrupts: &[u32]) -> Vec<u8> {
    let entries = entries(cpus.min(MOST_CPUS), interrupts);
    let mut bytes = b"PCMP".to_vec();
    bytes.extend([0, 0, 4, 0]); // length to come, revision 1.4, checksum to come
    bytes.extend(b"CARVE   CARVE-VM    "); // maker, product
    bytes.extend([0; 6]); // no OEM table
    let count = u16::try_from(entries.len()).expect("about 30 entries and one for each processor");
    bytes.extend(count.to_le_bytes());
    bytes.extend(layout::LAPIC.to_le_bytes());
    bytes.extend([0; 4]); // no extended table
    bytes.extend(entries.concat());
    let len = u16::try_from(bytes.len()).expect("about 300 bytes and 20 for each processor");
    bytes[4..6].copy_from_slice(&len.to_le_bytes());
    set_checksum(&mut bytes, 7);
    bytes
}

fn entries(cpus: u32, interrupts: &[u32]) -> Vec<Vec<u8>> {
    let io_apic_id = io_apic_id(cpus);
    let mut io_apic = vec![IO_APIC, io_apic_id, 0x11, 1];
    io_apic.extend(layout::IOAPIC.to_le_bytes());
    let mut entries: Vec<_> = (0..io_apic_id).map(processor).collect();
    entries.extend([[&[BUS, 0][..], b"ISA   "].concat(), io_apic]);
    let interrupts = interrupts.iter().filter_map(|irq| u8::try_from(*irq).ok());
    entries.extend(interrupts.map(|irq| vec![IO_INTERRUPT, INT, 0, 0, 0, irq, io_apic_id, irq]));
    entries.push(vec![LOCAL_INTERRUPT, EXT_INT, 0, 0, 0, 0, 0, 0]);
    entries.push(vec![LOCAL_INTERRUPT, NMI, 0, 0, 0, 0, 0xff, 1]);
    entries
}

fn processor(id: u8) -> Vec<u8> {
    let boots = if id == 0 { CPU_BOOTS } else { 0 };
    let mut entry = vec![PROCESSOR, id, APIC_VERSION, CPU_ENABLED | boots];
    entry.extend(0x600u32.to_le_bytes()); // signature; kernels ask CPUID instead
    entry.extend(0x201u32.to_le_bytes()); // has FPU and APIC
    entry.extend([0; 8]);
    entry
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
        for cpus in [1, 2, 64, 254, 1000] {
            let table = table(cpus, &[0, 1, 4, 23]);
            assert_eq!(sum(&table), 0);
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            // 44 bytes of header; a processor takes 20 bytes, everything else 8.
            let count = usize::from(u16::from_le_bytes([table[34], table[35]]));
            let processors = cpus.min(MOST_CPUS) as usize;
            assert_eq!(table.len(), 44 + processors * 20 + (count - processors) * 8);
            assert!(layout::MP_TABLE + table.len() as u64 <= layout::HIGH_RAM);
        }
    }

    #[test]
    fn every_processor_is_there_and_the_first_boots() {
        let processors: Vec<_> = entries(3, &[]).into_iter().filter(|entry| entry[0] == PROCESSOR).collect();
        let ids_and_flags: Vec<_> = processors.iter().map(|entry| (entry[1], entry[3])).collect();
        assert_eq!(ids_and_flags, [(0, 3), (1, 1), (2, 1)]);
    }

    #[test]
    fn the_io_apic_has_an_id_of_its_own() {
        for cpus in [1, 2, 254] {
            let entries = entries(cpus, &[5]);
            let io_apic = entries.iter().find(|entry| entry[0] == IO_APIC).unwrap();
            assert!(entries.iter().all(|entry| entry[0] != PROCESSOR || entry[1] != io_apic[1]));
        }
    }

    #[test]
    fn interrupts_that_nothing_is_connected_to_are_left_out_but_for_the_pics() {
        let virtio = vec![(layout::VIRTIO_MMIO, 5), (layout::VIRTIO_MMIO, 18)];
        let hardware = |pic| Hardware { acpi: false, cpus: 1, pic, serial: true, virtio: virtio.clone() };
        assert_eq!(interrupts(&hardware(false)), [4, 5, 18]);
        assert_eq!(interrupts(&hardware(true)), (0..16).chain([18]).collect::<Vec<_>>());
        let entry = entries(2, &[18]).into_iter().find(|entry| entry[0] == IO_INTERRUPT);
        assert_eq!(entry, Some(vec![IO_INTERRUPT, INT, 0, 0, 0, 18, 2, 18]));
    }

    #[test]
    fn the_pointer_is_in_the_last_kib_of_base_memory() {
        let (start, end) = (layout::MP_POINTER, layout::MP_POINTER + pointer().len() as u64);
        assert!(start >= 639 << 10 && end <= 640 << 10 && start % 16 == 0);
    }
}
