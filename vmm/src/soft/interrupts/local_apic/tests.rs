use super::super::frequency::TscFrequency;
use super::*;

const BASE: u32 = 0x1b;
const X2APIC_ON: u64 = 0xfee0_0d00;
const XAPIC_ON: u64 = 0xfee0_0900;

/// Software-enabled, in xAPIC mode. 1 GHz: a TSC tick is a tick of the timer.
fn xapic() -> LocalApic {
    let mut apic = LocalApic::new(TscFrequency::from_khz(1_000_000));
    write_page(&mut apic, 0xf0, 0x1ff);
    apic
}

fn x2apic() -> LocalApic {
    let mut apic = xapic();
    apic.write_msr(BASE, X2APIC_ON, 0).unwrap();
    apic
}

fn write_page(apic: &mut LocalApic, offset: u64, value: u32) -> Option<u8> {
    apic.write_mmio(offset, &value.to_le_bytes(), 0)
}

fn read_page(apic: &mut LocalApic, offset: u64) -> u32 {
    let mut data = [0; 4];
    apic.read_mmio(offset, &mut data, 0);
    u32::from_le_bytes(data)
}

fn fixed(vector: u8, level: bool) -> Message {
    Message { mode: DeliveryMode::Fixed, vector, level, logical: false, destination: 0 }
}

fn receive(apic: &mut LocalApic, vectors: &[u8]) {
    for vector in vectors {
        assert!(apic.receive(&fixed(*vector, false)));
    }
}

#[test]
fn firmware_leaves_it_on_with_the_pic_at_lint0() {
    let mut apic = LocalApic::new(TscFrequency::from_khz(1));
    assert_eq!(apic.read_msr(BASE, 0), Ok(XAPIC_ON));
    for (offset, value) in
        [(0x20, 0), (0x30, 0x0005_0014), (0xe0, u32::MAX), (0xf0, 0xff), (0x320, 1 << 16), (0x350, 0x700)]
    {
        assert_eq!(read_page(&mut apic, offset), value, "offset {offset:#x}");
    }
    assert!(apic.accepts_pic());
}

#[test]
fn the_highest_class_interrupts_first_and_nests() {
    let mut apic = xapic();
    receive(&mut apic, &[0x41, 0x61, 0x31]);
    assert_eq!(apic.acknowledge(), Some(0x61));
    receive(&mut apic, &[0x6f]);
    assert_eq!(apic.acknowledge(), None, "the same class does not nest");
    receive(&mut apic, &[0x70]);
    assert_eq!(apic.acknowledge(), Some(0x70));
    let ends_and_follows = [None, Some(0x6f), Some(0x41), Some(0x31), None];
    for follows in ends_and_follows {
        apic.end_of_interrupt();
        assert_eq!(apic.acknowledge(), follows);
    }
    assert_eq!(apic.end_of_interrupt(), None);
}

#[test]
fn the_task_priority_holds_back_its_class_and_below() {
    let mut apic = xapic();
    receive(&mut apic, &[0x41]);
    for (priority, pending, shown) in [
        (0x30, Some(0x41), 0x30),
        (0x3f, Some(0x41), 0x3f),
        (0x40, None, 0x40),
        (0xf0, None, 0xf0),
        (0, Some(0x41), 0),
    ] {
        write_page(&mut apic, 0x80, priority);
        assert_eq!((apic.pending_vector(), read_page(&mut apic, 0xa0)), (pending, shown), "{priority:#x}");
        assert_eq!(u32::from(apic.cr8()), priority >> 4);
    }
    apic.set_cr8(4);
    assert_eq!((apic.pending_vector(), read_page(&mut apic, 0x80)), (None, 0x40));
    apic.set_cr8(0);
    apic.acknowledge();
    assert_eq!(read_page(&mut apic, 0xa0), 0x40, "the class of what is in service");
    write_page(&mut apic, 0x80, 0x45);
    assert_eq!(read_page(&mut apic, 0xa0), 0x45, "the task's if it is not lower");
}

#[test]
fn requests_coalesce_but_wait_behind_one_in_service() {
    let mut apic = xapic();
    receive(&mut apic, &[0x50, 0x50]);
    assert_eq!(apic.acknowledge(), Some(0x50));
    receive(&mut apic, &[0x50]);
    assert_eq!(apic.acknowledge(), None);
    apic.end_of_interrupt();
    assert_eq!(apic.acknowledge(), Some(0x50));
    apic.end_of_interrupt();
    assert_eq!(apic.acknowledge(), None);
}

#[test]
fn only_the_end_of_a_level_interrupt_is_told() {
    let mut apic = xapic();
    for (level, told) in [(true, Some(0x50)), (false, None), (true, Some(0x50))] {
        apic.receive(&fixed(0x50, level));
        apic.acknowledge();
        assert_eq!(write_page(&mut apic, 0xb0, 0), told);
    }
}

#[test]
fn the_sets_show_in_their_registers() {
    for (mut apic, in_page) in [(xapic(), true), (x2apic(), false)] {
        apic.receive(&fixed(0x21, false));
        apic.receive(&fixed(0xe5, true));
        apic.acknowledge();
        let mut read = |number: u32| match in_page {
            true => u64::from(read_page(&mut apic, u64::from(number) << 4)),
            false => apic.read_msr(0x800 + number, 0).unwrap(),
        };
        assert_eq!((read(0x17), read(0x1f), read(0x21), read(0x27)), (1 << 5, 1 << 5, 1 << 1, 0));
    }
}

#[test]
fn disabled_by_software_it_takes_nothing_but_nmis_and_masks_its_table() {
    let mut apic = xapic();
    receive(&mut apic, &[0x50]);
    write_page(&mut apic, 0x350, 0x40);
    write_page(&mut apic, 0xf0, 0xff);
    assert!(!apic.receive(&fixed(0x60, false)));
    assert_eq!(apic.pending_vector(), Some(0x50), "what was requested before stays");
    assert_eq!(read_page(&mut apic, 0x350), 1 << 16 | 0x40);
    write_page(&mut apic, 0x350, 0x40);
    assert_eq!(read_page(&mut apic, 0x350), 1 << 16 | 0x40, "it cannot be unmasked");
    assert!(apic.receive(&Message { mode: DeliveryMode::Nmi, ..fixed(0, false) }));
    assert!(apic.take_nmi() && !apic.take_nmi());
}

#[test]
fn destinations_name_this_cpu_by_id_or_by_set() {
    // The CPU: id 0; in the page, member 0x12 or, as clusters, of cluster 1, member 2.
    const FLAT: u32 = u32::MAX;
    const CLUSTERS: u32 = 0x0fff_ffff;
    for (x2apic, format, logical, destination, addressed) in [
        (false, FLAT, false, 0, true),
        (false, FLAT, false, 1, false),
        (false, FLAT, false, EVERYONE, true),
        (false, FLAT, true, 0x02, true),
        (false, FLAT, true, 0xf0, true),
        (false, FLAT, true, 0xed, false),
        (false, FLAT, true, EVERYONE, true),
        (false, CLUSTERS, true, 0x12, true),
        (false, CLUSTERS, true, 0x13, true),
        (false, CLUSTERS, true, 0x11, false),
        (false, CLUSTERS, true, 0x22, false),
        (true, FLAT, false, 0, true),
        (true, FLAT, false, 0xff, false),
        (true, FLAT, false, EVERYONE, true),
        (true, FLAT, true, 1, true),
        (true, FLAT, true, 2, false),
        (true, FLAT, true, 0x1_0001, false),
        (true, FLAT, true, EVERYONE, true),
    ] {
        let mut apic = xapic();
        write_page(&mut apic, 0xd0, 0x1200_0000);
        write_page(&mut apic, 0xe0, format);
        if x2apic {
            apic.write_msr(BASE, X2APIC_ON, 0).unwrap();
        }
        let message = Message { logical, destination, ..fixed(0x50, false) };
        assert_eq!(apic.receive(&message), addressed, "x2apic {x2apic} {format:#x} {message:?}");
    }
}

#[test]
fn interrupt_commands_reach_this_cpu_by_address_or_shorthand() {
    for (command, destination, arrives) in [
        (0x0_0050, 0, true),    // physical
        (0x0_0050, 1, false),   // another CPU
        (0x0_0850, 1, true),    // logical
        (0x0_0150, 0, true),    // lowest priority
        (0x4_0050, 7, true),    // self
        (0x8_0050, 7, true),    // all
        (0xc_0050, 0, false),   // all others
        (0x0_0550, 0, false),   // INIT
        (0x0_0650, 0, false),   // start-up
        (0x0_0350, 0, false),   // reserved
        (0x0_0050, 0xff, true), // broadcast in the page
    ] {
        let mut apic = xapic();
        write_page(&mut apic, 0xd0, 0x0100_0000);
        write_page(&mut apic, 0x310, destination << 24);
        write_page(&mut apic, 0x300, command | 1 << 12);
        assert_eq!(apic.pending_vector().is_some(), arrives, "page: {command:#x} to {destination}");
        assert_eq!(read_page(&mut apic, 0x300), command, "never busy");
        assert_eq!(read_page(&mut apic, 0x310), destination << 24);
        if destination == 0xff {
            continue;
        }
        let mut apic = x2apic();
        let value = u64::from(destination) << 32 | command as u64;
        apic.write_msr(0x830, value, 0).unwrap();
        assert_eq!(apic.pending_vector().is_some(), arrives, "MSR: {value:#x}");
        assert_eq!(apic.read_msr(0x830, 0), Ok(value));
    }
}

#[test]
fn a_command_can_be_an_nmi_and_self_ipi_has_its_own_register() {
    let mut apic = x2apic();
    apic.write_msr(0x830, 0x400, 0).unwrap();
    assert!(apic.nmi_pending());
    apic.write_msr(0x83f, 0x51, 0).unwrap();
    assert_eq!(apic.pending_vector(), Some(0x51));
}

#[test]
fn errors_wait_for_a_write_and_interrupt_once() {
    let mut apic = xapic();
    write_page(&mut apic, 0x370, 0xfe);
    write_page(&mut apic, 0x300, 0x0f);
    assert_eq!(apic.acknowledge(), Some(0xfe));
    apic.end_of_interrupt();
    write_page(&mut apic, 0x300, 0x0e);
    assert_eq!(apic.acknowledge(), None, "the same error again");
    assert!(!apic.receive(&fixed(3, false)));
    read_page(&mut apic, 0x3f0);
    assert_eq!(read_page(&mut apic, 0x280), 0);
    write_page(&mut apic, 0x280, 0);
    assert_eq!(read_page(&mut apic, 0x280), 0b1110_0000);
    write_page(&mut apic, 0x280, 0);
    assert_eq!(read_page(&mut apic, 0x280), 0);
    write_page(&mut apic, 0x370, 0x05); // an error vector that is itself an error
    write_page(&mut apic, 0x300, 0x0f);
    write_page(&mut apic, 0x280, 0);
    assert_eq!(read_page(&mut apic, 0x280), 0b0110_0000);
}

#[test]
fn the_timer_interrupts_unless_its_entry_is_masked() {
    for (entry, pending) in [(0x40, Some(0x40)), (1 << 16 | 0x40, None)] {
        let mut apic = xapic();
        write_page(&mut apic, 0x320, entry);
        write_page(&mut apic, 0x3e0, 0b1011);
        write_page(&mut apic, 0x380, 1000);
        assert_eq!(read_page(&mut apic, 0x390), 1000);
        assert_eq!(apic.next_tsc(), Some(1000));
        apic.advance(1000);
        assert_eq!((apic.pending_vector(), apic.next_tsc()), (pending, None), "entry {entry:#x}");
    }
}

#[test]
fn a_deadline_in_the_past_fires_at_once() {
    let mut apic = x2apic();
    apic.write_msr(0x832, 2 << 17 | 0x40, 0).unwrap();
    apic.write_msr(0x6e0, 5000, 4999).unwrap();
    assert_eq!((apic.read_msr(0x6e0, 4999), apic.pending_vector()), (Ok(5000), None));
    apic.write_msr(0x6e0, 1, 5000).unwrap();
    assert_eq!((apic.read_msr(0x6e0, 5000), apic.acknowledge()), (Ok(0), Some(0x40)));
}

#[test]
fn a_deadline_in_another_timer_mode_is_ignored() {
    let mut apic = x2apic();
    apic.write_msr(0x6e0, 1, 5000).unwrap();
    assert_eq!((apic.read_msr(0x6e0, 5000), apic.next_tsc()), (Ok(0), None));
}

#[test]
fn modes_change_only_along_the_manuals_arrows() {
    const OFF: u64 = 0xfee0_0100;
    const X2APIC_WITHOUT_ON: u64 = 0xfee0_0500;
    for (from, to, allowed) in [
        (XAPIC_ON, OFF, true),
        (XAPIC_ON, X2APIC_ON, true),
        (XAPIC_ON, X2APIC_WITHOUT_ON, false),
        (OFF, XAPIC_ON, true),
        (OFF, X2APIC_ON, false),
        (X2APIC_ON, OFF, true),
        (X2APIC_ON, XAPIC_ON, false),
        (X2APIC_ON, X2APIC_ON, true),
        (XAPIC_ON, XAPIC_ON | 1 << 9, false),
        (XAPIC_ON, XAPIC_ON | 1, false),
        (XAPIC_ON, XAPIC_ON | 1 << 52, false),
    ] {
        let mut apic = xapic();
        apic.write_msr(BASE, from, 0).unwrap();
        assert_eq!(apic.write_msr(BASE, to, 0).is_ok(), allowed, "{from:#x} to {to:#x}");
        assert_eq!(apic.read_msr(BASE, 0), Ok(if allowed { to } else { from }));
    }
}

#[test]
fn switched_off_it_forgets_everything_and_lets_the_pic_through() {
    let mut apic = xapic();
    write_page(&mut apic, 0x350, 0x40);
    write_page(&mut apic, 0x380, 1000);
    receive(&mut apic, &[0x50]);
    assert!(!apic.accepts_pic());
    apic.write_msr(BASE, XAPIC_ON & !(1 << 11), 0).unwrap();
    assert_eq!((apic.pending_vector(), apic.next_tsc(), apic.accepts_pic()), (None, None, true));
    assert!(!apic.receive(&fixed(0x50, false)));
    assert_eq!(read_page(&mut apic, 0x30), u32::MAX);
    apic.write_msr(BASE, XAPIC_ON, 0).unwrap();
    assert_eq!((read_page(&mut apic, 0xf0), apic.accepts_pic()), (0xff, false));
}

#[test]
fn each_mode_answers_its_own_addresses_only() {
    let mut apic = xapic();
    assert_eq!(apic.read_msr(0x802, 0), Err(GeneralProtection));
    assert_eq!(apic.write_msr(0x80b, 0, 0), Err(GeneralProtection));
    assert_eq!(read_page(&mut apic, 0x30), 0x0005_0014);
    apic.write_msr(BASE, X2APIC_ON, 0).unwrap();
    assert_eq!(apic.read_msr(0x803, 0), Ok(0x0005_0014));
    assert_eq!(read_page(&mut apic, 0x30), u32::MAX);
    write_page(&mut apic, 0x80, 0xf0);
    assert_eq!(apic.read_msr(0x808, 0), Ok(0));
}

#[test]
fn the_page_can_be_moved() {
    let mut apic = xapic();
    assert_eq!(apic.mmio_offset(0xfee0_0ff0), Some(0xff0));
    assert_eq!(apic.mmio_offset(0xfee0_1000), None);
    apic.write_msr(BASE, 0xfed0_0900, 0).unwrap();
    assert_eq!((apic.mmio_offset(0xfee0_0000), apic.mmio_offset(0xfed0_0080)), (None, Some(0x80)));
}

#[test]
fn msrs_that_cannot_be_read_or_written_fault() {
    for (number, readable, writable) in [
        (0x00, false, false),
        (0x02, true, false),
        (0x03, true, false),
        (0x08, true, true),
        (0x09, false, false),
        (0x0a, true, false),
        (0x0b, false, true),
        (0x0c, false, false),
        (0x0d, true, false),
        (0x0e, false, false),
        (0x0f, true, true),
        (0x10, true, false),
        (0x27, true, false),
        (0x28, true, true),
        (0x2f, false, false),
        (0x31, false, false),
        (0x32, true, true),
        (0x37, true, true),
        (0x38, true, true),
        (0x39, true, false),
        (0x3e, true, true),
        (0x40, false, false),
        (0xff, false, false),
    ] {
        let mut apic = x2apic();
        assert_eq!(apic.read_msr(0x800 + number, 0).is_ok(), readable, "read {number:#x}");
        assert_eq!(apic.write_msr(0x800 + number, 0, 0).is_ok(), writable, "write {number:#x}");
    }
    assert_eq!(x2apic().read_msr(0x830, 0), Ok(0));
    assert_eq!(x2apic().read_msr(0x83f, 0), Err(GeneralProtection));
}

#[test]
fn reserved_bits_fault_in_x2apic_mode() {
    for (number, allowed, reserved) in [
        (0x08, 0xff, 0x100),
        (0x0b, 0, 1),
        (0x0f, 0x3ff, 0x400),
        (0x28, 0, 1),
        (0x30, 0xffff_ffff_000c_dfff, 1 << 13),
        (0x30, 0, 1 << 16),
        (0x30, 0, 1 << 20),
        (0x32, 0x7_10ff, 1 << 8),
        (0x33, 0x1_17ff, 1 << 13),
        (0x35, 0x1_f7ff, 1 << 11),
        (0x37, 0x1_10ff, 0x700),
        (0x38, 0xffff_ffff, 1 << 32),
        (0x3e, 0b1011, 0b100),
        (0x3f, 0xff, 0x100),
    ] {
        let mut apic = x2apic();
        assert_eq!(apic.write_msr(0x800 + number, reserved, 0), Err(GeneralProtection), "{number:#x}");
        assert!(apic.write_msr(0x800 + number, allowed, 0).is_ok(), "{number:#x} takes {allowed:#x}");
    }
}

#[test]
fn in_the_page_only_aligned_32_bit_writes_count() {
    let mut apic = xapic();
    for (offset, data) in [(0x80, &[0x50][..]), (0x84, &[0x50, 0, 0, 0]), (0x80, &[0x50; 8]), (0x80, &[])] {
        assert_eq!(apic.write_mmio(offset, data, 0), None);
        assert_eq!(read_page(&mut apic, 0x80), 0);
    }
    for (offset, len, bytes) in [
        (0x30, 4, [0x14, 0, 5, 0, 0xee]),
        (0x32, 1, [5, 0xee, 0xee, 0xee, 0xee]),
        (0x32, 5, [5, 0, 0, 0, 0]),
        (0x3c, 2, [0, 0, 0xee, 0xee, 0xee]),
    ] {
        let mut data = [0xee; 5];
        apic.read_mmio(offset, &mut data[..len], 0);
        assert_eq!(data, bytes, "{len} bytes at {offset:#x}");
    }
}

#[test]
fn read_only_registers_of_the_page_ignore_writes() {
    let mut apic = xapic();
    for offset in [0x20, 0x30, 0x90, 0xa0, 0xc0, 0x100, 0x180, 0x200, 0x270, 0x390] {
        let before = apic.clone();
        write_page(&mut apic, offset, u32::MAX);
        assert_eq!(apic, before, "offset {offset:#x}");
    }
}

#[test]
fn every_access_is_harmless() {
    for mut apic in [xapic(), x2apic()] {
        for number in 0..0x100 {
            let msr = 0x800 + u32::try_from(number).unwrap();
            for value in [0, 1, 0x40, 0x0004_0001, u64::from(u32::MAX), u64::MAX] {
                let low = value.to_le_bytes();
                let _ = apic.write_mmio(number << 4, &low[..4], value);
                let _ = apic.write_msr(msr, value, !value);
                apic.read_mmio(number << 4 | (value & 0xf), &mut [0; 16], value);
                let _ = apic.read_msr(msr, value);
                apic.advance(value);
                apic.acknowledge();
            }
        }
        assert_eq!(apic.read(registers::VERSION, 0), Some(0x0005_0014));
    }
}
