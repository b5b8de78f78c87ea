use super::*;

/// A bus that accepts or refuses every message, and remembers those it saw.
struct Bus {
    accepts: bool,
    seen: Vec<Message>,
}

impl Bus {
    fn new() -> Self {
        Self { accepts: true, seen: Vec::new() }
    }

    fn deliver(&mut self) -> impl FnMut(&Message) -> bool {
        |message| {
            self.seen.push(*message);
            self.accepts
        }
    }

    /// The vectors seen since the last call.
    fn vectors(&mut self) -> Vec<u8> {
        self.seen.drain(..).map(|message| message.vector).collect()
    }
}

fn write(io_apic: &mut IoApic, register: u8, value: u32, bus: &mut Bus) {
    io_apic.write_mmio(SELECT, &[register], bus.deliver());
    io_apic.write_mmio(DATA, &value.to_le_bytes(), bus.deliver());
}

fn read(io_apic: &mut IoApic, register: u8) -> u32 {
    io_apic.write_mmio(SELECT, &[register], |_| true);
    let mut data = [0; 4];
    io_apic.read_mmio(DATA, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn registers_read_as_kernels_expect() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    for (register, written, read_back) in [
        (0x00, u32::MAX, 0x0f00_0000),
        (0x01, u32::MAX, 0x0017_0011),
        (0x02, 0, 0x0f00_0000),
        (0x03, u32::MAX, 0),
        (0x10, 0, 0),
        (0x12, u32::MAX, 0x0001_afff), // neither delivery status nor remote IRR can be written
        (0x13, u32::MAX, 0xff00_0000),
        (0x3e, MASKED, MASKED),
        (0x40, 0, u32::MAX), // no such input
        (0xff, 0, u32::MAX),
    ] {
        write(&mut io_apic, register, written, &mut bus);
        assert_eq!(read(&mut io_apic, register), read_back, "register {register:#x}");
    }
    assert_eq!(read(&mut IoApic::new(), 0x10), MASKED);
}

#[test]
fn a_message_says_what_the_entry_says() {
    for (low, high, message) in [
        (
            0x0040,
            0,
            Message { mode: DeliveryMode::Fixed, vector: 0x40, level: false, logical: false, destination: 0 },
        ),
        (
            0x8941,
            0x0300_0000,
            Message {
                mode: DeliveryMode::LowestPriority,
                vector: 0x41,
                level: true,
                logical: true,
                destination: 3,
            },
        ),
        (
            0x0400,
            0xff00_0000,
            Message {
                mode: DeliveryMode::Nmi,
                vector: 0,
                level: false,
                logical: false,
                destination: u32::MAX,
            },
        ),
    ] {
        let mut io_apic = IoApic::new();
        let mut bus = Bus::new();
        write(&mut io_apic, 0x1d, high, &mut bus);
        write(&mut io_apic, 0x1c, low, &mut bus);
        io_apic.set_input(6, true, bus.deliver());
        assert_eq!(bus.seen, [message], "entry {high:#x} {low:#x}");
    }
}

#[test]
fn an_edge_interrupts_at_each_rise() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    write(&mut io_apic, 0x1a, 0x45, &mut bus);
    for high in [true, true, false, true] {
        io_apic.set_input(5, high, bus.deliver());
    }
    assert_eq!(bus.vectors(), [0x45, 0x45]);
}

#[test]
fn an_edge_while_masked_is_lost() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    io_apic.set_input(5, true, bus.deliver());
    write(&mut io_apic, 0x1a, 0x45, &mut bus);
    assert_eq!(bus.vectors(), Vec::<u8>::new());
    io_apic.set_input(5, false, bus.deliver());
    io_apic.set_input(5, true, bus.deliver());
    assert_eq!(bus.vectors(), [0x45]);
}

#[test]
fn a_level_waits_while_masked() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    write(&mut io_apic, 0x1a, MASKED | LEVEL | 0x45, &mut bus);
    io_apic.set_input(5, true, bus.deliver());
    assert_eq!(bus.vectors(), Vec::<u8>::new());
    write(&mut io_apic, 0x1a, LEVEL | 0x45, &mut bus);
    assert_eq!(bus.vectors(), [0x45]);
}

#[test]
fn a_level_interrupts_again_after_its_end_if_it_is_still_high() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    write(&mut io_apic, 0x1a, LEVEL | 0x45, &mut bus);
    io_apic.set_input(5, true, bus.deliver());
    io_apic.set_input(5, true, bus.deliver());
    assert_eq!(bus.vectors(), [0x45], "once until the end");
    assert_eq!(read(&mut io_apic, 0x1a), LEVEL | REMOTE_IRR | 0x45);
    io_apic.end_of_interrupt(0x44, bus.deliver());
    assert_eq!(bus.vectors(), Vec::<u8>::new(), "another vector's end");
    io_apic.end_of_interrupt(0x45, bus.deliver());
    assert_eq!(bus.vectors(), [0x45]);
    io_apic.set_input(5, false, bus.deliver());
    io_apic.end_of_interrupt(0x45, bus.deliver());
    assert_eq!(bus.vectors(), Vec::<u8>::new());
    assert_eq!(read(&mut io_apic, 0x1a), LEVEL | 0x45);
}

#[test]
fn edge_mode_for_a_moment_ends_a_level_interrupt() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus::new();
    write(&mut io_apic, 0x1a, LEVEL | 0x45, &mut bus);
    io_apic.set_input(5, true, bus.deliver());
    write(&mut io_apic, 0x1a, MASKED | LEVEL | 0x45, &mut bus);
    assert_eq!(read(&mut io_apic, 0x1a), MASKED | LEVEL | REMOTE_IRR | 0x45, "masking does not end it");
    write(&mut io_apic, 0x1a, MASKED | 0x45, &mut bus);
    bus.vectors();
    write(&mut io_apic, 0x1a, LEVEL | 0x45, &mut bus);
    assert_eq!(bus.vectors(), [0x45]);
}

#[test]
fn a_level_that_nobody_accepts_is_not_in_service() {
    let mut io_apic = IoApic::new();
    let mut bus = Bus { accepts: false, seen: Vec::new() };
    write(&mut io_apic, 0x1a, LEVEL | 0x45, &mut bus);
    io_apic.set_input(5, true, bus.deliver());
    assert_eq!(read(&mut io_apic, 0x1a), LEVEL | 0x45);
}

#[test]
fn every_access_is_harmless() {
    let mut io_apic = IoApic::new();
    for select in 0..=255 {
        for value in [0, u32::MAX, 0x8000, 0x1_0000] {
            for offset in [SELECT, 1, 4, DATA, 0x11, 0x40, 0xff] {
                io_apic.write_mmio(SELECT, &[select], |_| true);
                io_apic.write_mmio(offset, &value.to_le_bytes(), |_| true);
                for len in [0, 1, 3, 8, 16] {
                    io_apic.read_mmio(offset, &mut [0xee; 16][..len]);
                    io_apic.write_mmio(offset, &[0xee; 16][..len], |_| true);
                }
            }
            io_apic.set_input(value, true, |_| true);
            io_apic.end_of_interrupt(select, |_| true);
        }
    }
    assert_eq!(read(&mut io_apic, 1), VERSION_VALUE);
}

#[test]
fn the_window_is_256_bytes() {
    for (address, offset) in [
        (0xfec0_0000, Some(0)),
        (0xfec0_00ff, Some(0xff)),
        (0xfec0_0100, None),
        (0xfebf_ffff, None),
        (u64::MAX, None),
    ] {
        assert_eq!(IoApic::mmio_offset(address), offset, "{address:#x}");
    }
}
