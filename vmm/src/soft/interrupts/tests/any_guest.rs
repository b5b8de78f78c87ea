//! Whatever a guest and its devices do, in any order: what the controllers promise the CPU holds.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Deed {
    Msr(u32, u64),
    Mmio(u64, u32),
    Port(u16, u8),
    Trigger(u32),
    Cr8(u8),
    Pass(u64),
    Take(bool, bool),
    EndOfInterrupt,
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..0x200u64,
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        Just(0xfee0_0900),
        Just(0xfee0_0d00),
    ]
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap()
}

fn deed() -> impl Strategy<Value = Deed> {
    let msr = prop_oneof![Just(0x1bu32), Just(0x6e0), 0x800..0x840u32, 0x800..0x900u32];
    let port =
        prop::sample::select(vec![0x20u16, 0x21, 0x40, 0x41, 0x42, 0x43, 0x61, 0xa0, 0xa1, 0x4d0, 0x4d1]);
    prop_oneof![
        (msr, value()).prop_map(|(msr, value)| Deed::Msr(msr, value)),
        (0..0x40u64, value()).prop_map(|(number, value)| Deed::Mmio(LOCAL_APIC + number * 16, low(value))),
        (0x10..0x40u32).prop_map(|register| Deed::Mmio(IO_APIC, register)),
        value().prop_map(|value| Deed::Mmio(IO_APIC + 0x10, low(value))),
        (port, any::<u8>()).prop_map(|(port, value)| Deed::Port(port, value)),
        (0..24u32).prop_map(Deed::Trigger),
        any::<u8>().prop_map(Deed::Cr8),
        (0..10_000_000u64).prop_map(Deed::Pass),
        any::<(bool, bool)>().prop_map(|(maskable, nmi)| Deed::Take(maskable, nmi)),
        Just(Deed::EndOfInterrupt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_atomics_tell_the_truth(deeds in prop::collection::vec(deed(), 1..200)) {
        let machine = Machine::with_x2apic();
        let controllers = &machine.controllers;
        let mut tsc = 1 << 40;
        for deed in deeds {
            let waited = controllers.pending();
            let taking = matches!(deed, Deed::Take(..));
            match deed {
                Deed::Msr(index, value) => drop(controllers.write_msr(index, value, tsc).ok()),
                Deed::Mmio(address, value) => drop(controllers.write_mmio(address, &value.to_le_bytes(), tsc)),
                Deed::Port(port, value) => drop(controllers.write_port(port, &[value], tsc)),
                Deed::Trigger(irq) => machine.trigger(irq),
                Deed::Cr8(value) => controllers.set_cr8(value),
                Deed::Pass(ticks) => {
                    tsc += ticks;
                    controllers.advance(tsc);
                    prop_assert!(controllers.deadline().is_none_or(|deadline| deadline > tsc));
                }
                Deed::Take(maskable, nmi) => {
                    let taken = controllers.take(Accepts { maskable, nmi });
                    prop_assert!(waited || taken.is_none());
                    prop_assert!(!(waited && maskable && nmi) || taken.is_some());
                }
                Deed::EndOfInterrupt => drop(controllers.write_msr(EOI, 0, tsc).ok()),
            }
            let notified = machine.notified() != 0;
            prop_assert!(waited || notified == controllers.pending(), "what begins to wait is notified");
            prop_assert!(!(taking && notified), "taking makes nothing new");
        }
    }
}
