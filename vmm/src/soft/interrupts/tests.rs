//! The controllers as a kernel and devices see them together.

mod any_guest;

use std::sync::atomic::AtomicUsize;

use super::*;

/// 1 GHz: a TSC tick is a tick of the local APIC's timer.
const TSC_KHZ: u64 = 1_000_000;
const ALL: Accepts = Accepts { maskable: true, nmi: true };
const IO_APIC: u64 = 0xfec0_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;
const DEADLINE: u32 = 0x6e0;
const EOI: u32 = 0x80b;

/// Controllers, and how often they have notified.
struct Machine {
    controllers: Arc<Controllers>,
    notified: Arc<AtomicUsize>,
}

impl Machine {
    fn new() -> Self {
        Self::with_pic(true)
    }

    fn with_pic(has_pic: bool) -> Self {
        let notified = Arc::new(AtomicUsize::new(0));
        let counter = notified.clone();
        let notify = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        Self { controllers: Controllers::new(notify, TSC_KHZ, has_pic), notified }
    }

    /// As Linux sets it up: x2APIC mode, enabled, PIC masked, LINT0 masked.
    fn with_x2apic() -> Self {
        let machine = Self::new();
        let base = machine.read_msr(0x1b);
        machine.write_msr(0x1b, base | 1 << 10);
        machine.write_msr(0x80f, 0x1ff);
        machine.write_msr(0x835, 0x1_0700);
        machine
    }

    fn read_msr(&self, index: u32) -> u64 {
        self.controllers.read_msr(index, 0).unwrap()
    }

    fn write_msr(&self, index: u32, value: u64) {
        self.controllers.write_msr(index, value, 0).unwrap();
    }

    fn write_io_apic(&self, register: u8, value: u32) {
        assert!(self.controllers.write_mmio(IO_APIC, &u32::from(register).to_le_bytes(), 0));
        assert!(self.controllers.write_mmio(IO_APIC + 0x10, &value.to_le_bytes(), 0));
    }

    fn write_ports(&self, writes: &[(u16, u8)], tsc: u64) {
        for (port, value) in writes {
            assert!(self.controllers.write_port(*port, &[*value], tsc), "port {port:#x}");
        }
    }

    fn trigger(&self, irq: u32) {
        self.controllers.line(irq).trigger().unwrap();
    }

    fn take(&self) -> Option<Interrupt> {
        self.controllers.take(ALL)
    }

    fn notified(&self) -> usize {
        self.notified.swap(0, Ordering::SeqCst)
    }
}

/// Linux' `init_8259A`, everything but the cascade masked.
const PIC_INIT: [(u16, u8); 11] = [
    (0x21, 0xff),
    (0x20, 0x11),
    (0x21, 0x30),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xa0, 0x11),
    (0xa1, 0x38),
    (0xa1, 0x02),
    (0xa1, 0x01),
    (0x21, 0xfb),
    (0xa1, 0xff),
];

#[test]
fn a_devices_line_reaches_the_cpu_through_the_io_apic() {
    let machine = Machine::with_x2apic();
    machine.write_io_apic(0x1a, 0x45);
    assert!(!machine.controllers.pending());
    machine.trigger(5);
    assert!(machine.controllers.pending());
    assert_eq!((machine.take(), machine.take()), (Some(Interrupt::Vector(0x45)), None));
    assert!(!machine.controllers.pending());
}

#[test]
fn it_notifies_once_for_what_becomes_deliverable() {
    let machine = Machine::with_x2apic();
    machine.write_io_apic(0x1a, 0x1_0045);
    machine.trigger(5);
    assert_eq!(machine.notified(), 0, "masked");
    machine.write_io_apic(0x1a, 0x45);
    machine.trigger(5);
    machine.trigger(5);
    assert_eq!(machine.notified(), 1, "waits already");
    machine.take();
    machine.trigger(5);
    assert_eq!(machine.notified(), 0, "behind the one in service");
    machine.write_msr(EOI, 0);
    assert_eq!(machine.notified(), 1, "its end makes room");
    machine.write_msr(0x830, 0x400);
    assert_eq!(machine.notified(), 1, "an NMI is of another kind");
}

#[test]
fn lines_can_be_triggered_by_any_thread() {
    let machine = Machine::with_x2apic();
    machine.write_io_apic(0x1a, 0x45);
    let line = machine.controllers.line(5);
    std::thread::spawn(move || line.trigger()).join().unwrap().unwrap();
    assert_eq!(machine.take(), Some(Interrupt::Vector(0x45)));
}

#[test]
fn a_line_without_an_input_says_so() {
    let machine = Machine::new();
    let error = machine.controllers.line(24).trigger().unwrap_err();
    assert_eq!(error.to_string(), "there is no interrupt input 24: the last one is 23");
}

#[test]
fn the_cpu_gets_only_what_it_accepts() {
    let machine = Machine::with_x2apic();
    machine.write_io_apic(0x1a, 0x45);
    machine.trigger(5);
    assert_eq!(machine.controllers.take(Accepts { maskable: false, nmi: true }), None);
    machine.write_msr(0x830, 0x400);
    let nothing = Accepts::default();
    assert_eq!(machine.controllers.take(nothing), None);
    assert_eq!(
        machine.controllers.take(Accepts { maskable: true, nmi: false }),
        Some(Interrupt::Vector(0x45))
    );
    assert_eq!(machine.take(), Some(Interrupt::Nmi));
}

#[test]
fn a_deadline_shows_fires_and_is_gone() {
    let machine = Machine::with_x2apic();
    machine.write_msr(0x832, 2 << 17 | 0xec);
    assert_eq!(machine.controllers.deadline(), None);
    machine.write_msr(DEADLINE, 1000);
    assert_eq!(machine.controllers.deadline(), Some(1000));
    machine.controllers.advance(999);
    assert_eq!(machine.take(), None);
    machine.controllers.advance(1000);
    assert_eq!((machine.controllers.deadline(), machine.notified()), (None, 1));
    assert_eq!(machine.take(), Some(Interrupt::Vector(0xec)));
    machine.write_msr(EOI, 0);
    machine.controllers.write_msr(DEADLINE, 1500, 2000).unwrap();
    assert_eq!(machine.take(), Some(Interrupt::Vector(0xec)), "in the past: at once");
}

#[test]
fn time_passes_with_every_access() {
    let machine = Machine::with_x2apic();
    machine.write_msr(0x832, 2 << 17 | 0xec);
    machine.write_msr(DEADLINE, 1000);
    assert_eq!(machine.controllers.read_msr(0x827, 1000), Ok(1 << 12), "it shows as requested");
    assert!(machine.controllers.pending());
}

#[test]
fn the_end_of_a_level_interrupt_reaches_the_io_apic() {
    for x2apic in [true, false] {
        let machine = if x2apic { Machine::with_x2apic() } else { Machine::new() };
        machine.controllers.write_mmio(LOCAL_APIC + 0xf0, &0x1ffu32.to_le_bytes(), 0);
        machine.write_io_apic(0x1a, 0x8045);
        let in_service = || {
            let mut data = [0; 4];
            assert!(machine.controllers.read_mmio(IO_APIC + 0x10, &mut data, 0));
            u32::from_le_bytes(data) & 1 << 14 != 0
        };
        machine.trigger(5);
        assert!(in_service());
        assert_eq!(machine.take(), Some(Interrupt::Vector(0x45)));
        if x2apic {
            machine.write_msr(EOI, 0);
        } else {
            machine.controllers.write_mmio(LOCAL_APIC + 0xb0, &[0; 4], 0);
        }
        assert!(!in_service());
        machine.trigger(5);
        assert_eq!(machine.take(), Some(Interrupt::Vector(0x45)));
    }
}

#[test]
fn lowering_the_task_priority_lets_a_waiting_interrupt_through() {
    let machine = Machine::with_x2apic();
    machine.write_io_apic(0x1a, 0x45);
    machine.controllers.set_cr8(4);
    machine.trigger(5);
    assert!(!machine.controllers.pending());
    machine.controllers.set_cr8(3);
    assert_eq!((machine.controllers.cr8(), machine.controllers.pending(), machine.notified()), (3, true, 1));
}

#[test]
fn the_timer_works_through_the_io_apic_as_linux_checks_it() {
    let machine = Machine::with_x2apic();
    machine.write_ports(&PIC_INIT, 0);
    machine.write_io_apic(0x10, 0x30);
    machine.write_ports(&[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)], 0); // 100 Hz
    for _ in 0..5 {
        let due = machine.controllers.deadline().unwrap();
        machine.controllers.advance(due - 1);
        assert_eq!(machine.take(), None);
        machine.controllers.advance(due);
        assert_eq!(machine.take(), Some(Interrupt::Vector(0x30)));
        machine.write_msr(EOI, 0);
    }
}

#[test]
fn the_timer_works_through_the_pic_and_lint0() {
    let machine = Machine::new(); // as firmware leaves it
    machine.write_ports(&PIC_INIT, 0);
    machine.write_ports(&[(0x43, 0x34), (0x40, 0), (0x40, 0), (0x21, 0xfa)], 0);
    for _ in 0..3 {
        machine.controllers.advance(machine.controllers.deadline().unwrap());
        assert_eq!((machine.take(), machine.take()), (Some(Interrupt::Vector(0x30)), None));
        machine.write_ports(&[(0x20, 0x60)], 0);
    }
    machine.controllers.write_mmio(LOCAL_APIC + 0x350, &0x1_0700u32.to_le_bytes(), 0);
    machine.controllers.advance(machine.controllers.deadline().unwrap());
    assert!(!machine.controllers.pending(), "LINT0 is masked");
}

#[test]
fn lint0_can_be_a_vector_or_an_nmi_of_its_own() {
    for (entry, interrupt) in [(0x30, Interrupt::Vector(0x30)), (0x400, Interrupt::Nmi)] {
        let machine = Machine::with_x2apic();
        machine.write_ports(&PIC_INIT, 0);
        machine.write_msr(0x835, entry);
        machine.write_ports(&[(0x21, 0xfe)], 0);
        machine.trigger(0);
        assert_eq!((machine.take(), machine.take()), (Some(interrupt), None));
    }
}

#[test]
fn with_the_local_apic_off_the_pic_interrupts_directly() {
    let machine = Machine::new();
    machine.write_ports(&PIC_INIT, 0);
    machine.write_ports(&[(0x21, 0xef)], 0);
    machine.write_msr(0x1b, 0xfee0_0100);
    machine.trigger(4);
    assert_eq!(machine.take(), Some(Interrupt::Vector(0x34)));
}

#[test]
fn linux_stops_the_pit_and_masks_the_pic() {
    let machine = Machine::with_x2apic();
    machine.write_ports(&PIC_INIT, 0);
    machine.write_ports(&[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)], 0);
    machine.write_ports(&[(0x43, 0x30), (0x40, 0), (0x40, 0)], 0);
    machine.controllers.advance(machine.controllers.deadline().unwrap());
    assert_eq!((machine.controllers.deadline(), machine.take()), (None, None));
}

#[test]
fn only_their_own_addresses_are_answered() {
    let machine = Machine::new();
    let controllers = &machine.controllers;
    for (address, ours) in
        [(LOCAL_APIC + 0xfff, true), (LOCAL_APIC + 0x1000, false), (IO_APIC, true), (0xd000_0000, false)]
    {
        assert_eq!(controllers.read_mmio(address, &mut [0; 4], 0), ours, "{address:#x}");
        assert_eq!(controllers.write_mmio(address, &[0; 4], 0), ours, "{address:#x}");
    }
    for (port, ours) in
        [(0x20, true), (0x61, true), (0x60, false), (0x44, false), (0x4d1, true), (0x3f8, false)]
    {
        assert_eq!(controllers.read_port(port, &mut [0], 0), ours, "{port:#x}");
        assert_eq!(controllers.write_port(port, &[0], 0), ours, "{port:#x}");
    }
    for (index, ours) in [
        (0x1b, true),
        (0x6e0, true),
        (0x7ff, false),
        (0x800, true),
        (0x8ff, true),
        (0x900, false),
        (0x10, false),
    ] {
        assert_eq!(Controllers::owns_msr(index), ours, "{index:#x}");
    }
}

#[test]
fn ports_answer_single_bytes_only() {
    let machine = Machine::new();
    let mut data = [0; 2];
    assert!(machine.controllers.read_port(0x21, &mut data, 0));
    assert_eq!(data, [0xff; 2]);
    assert!(machine.controllers.write_port(0x20, &[0x11, 0x11], 0));
    assert!(machine.controllers.write_port(0x20, &[], 0));
    machine.write_ports(&[(0x21, 0xfb)], 0);
    let mut data = [0];
    machine.controllers.read_port(0x21, &mut data, 0);
    assert_eq!(data, [0xfb], "no initialisation was begun");
}

#[test]
fn without_a_pic_its_ports_float_and_the_rest_works() {
    let machine = Machine::with_pic(false);
    let mut data = [0];
    machine.write_ports(&PIC_INIT, 0);
    for port in [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1] {
        data[0] = 0;
        assert!(machine.controllers.read_port(port, &mut data, 0));
        assert_eq!(data, [0xff], "{port:#x}: not what Linux wrote to see whether there is one");
    }
    machine.write_ports(&[(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)], 0);
    machine.write_msr(0x1b, 0xfee0_0d00);
    machine.write_msr(0x80f, 0x1ff);
    machine.write_io_apic(0x10, 0x30);
    machine.controllers.advance(machine.controllers.deadline().unwrap());
    assert_eq!((machine.take(), machine.take()), (Some(Interrupt::Vector(0x30)), None));
}

#[test]
fn a_saved_machine_has_its_pic_or_none_afterwards() {
    for has_pic in [true, false] {
        let saved = Machine::with_pic(has_pic).controllers.save().unwrap();
        let other = Machine::with_pic(!has_pic);
        other.controllers.restore(&saved).unwrap();
        other.write_ports(&PIC_INIT, 0);
        let mut mask = [0];
        other.controllers.read_port(0x21, &mut mask, 0);
        assert_eq!(mask == [0xfb], has_pic);
    }
}
