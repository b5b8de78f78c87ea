use super::*;

/// What Linux writes in `init_8259A`.
fn initialised_as_linux_does(auto_end: bool) -> Pic {
    let mut pic = Pic::new();
    for (port, value) in [
        (0x21, 0xff),
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, if auto_end { 0x03 } else { 0x01 }),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 0x02),
        (0xa1, 0x01),
        (0x21, 0xfb),
        (0xa1, 0xff),
    ] {
        assert!(pic.write_port(port, value));
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u32) {
    pic.set_input(irq, true);
    pic.set_input(irq, false);
}

fn open(pic: &mut Pic) {
    pic.write_port(0x21, 0);
    pic.write_port(0xa1, 0);
}

#[test]
fn linux_finds_the_chip_by_its_mask() {
    let mut pic = Pic::new();
    pic.write_port(0xa1, 0xff);
    pic.write_port(0x21, 0xfb);
    assert_eq!((pic.read_port(0x21), pic.read_port(0xa1)), (Some(0xfb), Some(0xff)));
}

#[test]
fn inputs_have_the_vectors_that_the_initialisation_gave() {
    for (irq, vector) in [(0, 0x30), (1, 0x31), (7, 0x37), (8, 0x38), (15, 0x3f)] {
        let mut pic = initialised_as_linux_does(false);
        open(&mut pic);
        assert!(!pic.output());
        pulse(&mut pic, irq);
        assert!(pic.output(), "irq {irq}");
        assert_eq!(pic.acknowledge(), vector, "irq {irq}");
        assert!(!pic.output(), "irq {irq}");
    }
}

#[test]
fn a_masked_rise_waits_until_it_is_unmasked() {
    let mut pic = initialised_as_linux_does(false);
    for irq in [0, 12] {
        pulse(&mut pic, irq);
        assert!(!pic.output());
        open(&mut pic);
        assert!(pic.output());
        assert_eq!(pic.acknowledge(), 0x30 + u8::try_from(irq).unwrap());
        for port in [0xa0, 0x20] {
            pic.write_port(port, 0x20);
        }
        pic.write_port(0x21, 0xfb);
        pic.write_port(0xa1, 0xff);
    }
}

#[test]
fn what_is_in_service_blocks_lower_priorities_until_it_ends() {
    let mut pic = initialised_as_linux_does(false);
    open(&mut pic);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 5);
    assert!(!pic.output());
    pulse(&mut pic, 9); // through input 2: higher
    assert_eq!(pic.acknowledge(), 0x39);
    pic.write_port(0x20, 0x0b); // read what is in service
    assert_eq!(pic.read_port(0x20), Some(0b0001_0100));
    pic.write_port(0xa0, 0x61); // specific ends, as Linux does: 9 on the second, 2 on the first
    pic.write_port(0x20, 0x62);
    assert!(!pic.output());
    pic.write_port(0x20, 0x64);
    assert_eq!(pic.acknowledge(), 0x35);
}

#[test]
fn automatic_end_leaves_nothing_in_service() {
    let mut pic = initialised_as_linux_does(true);
    open(&mut pic);
    for _ in 0..3 {
        pulse(&mut pic, 0);
        assert_eq!(pic.acknowledge(), 0x30);
    }
    pic.write_port(0x20, 0x0b);
    assert_eq!(pic.read_port(0x20), Some(0));
}

#[test]
fn an_interrupt_that_is_gone_is_spurious() {
    let mut pic = initialised_as_linux_does(false);
    assert_eq!(pic.acknowledge(), 0x37);
    open(&mut pic);
    pic.write_port(0x4d1, 0xff);
    assert_eq!(pic.read_port(0x4d1), Some(0xde));
    pic.set_input(10, true);
    assert!(pic.output());
    pic.set_input(10, false);
    assert!(!pic.output(), "a level-triggered request goes away with its line");
}

#[test]
fn a_level_triggered_input_interrupts_until_its_line_falls() {
    let mut pic = initialised_as_linux_does(false);
    open(&mut pic);
    pic.write_port(0x4d0, 0xff);
    assert_eq!(pic.read_port(0x4d0), Some(0xf8));
    pic.set_input(5, true);
    for _ in 0..2 {
        assert_eq!(pic.acknowledge(), 0x35);
        assert!(!pic.output());
        pic.write_port(0x20, 0x20);
        assert!(pic.output());
    }
    pic.set_input(5, false);
    assert!(!pic.output());
}

#[test]
fn rotation_makes_the_ended_input_the_last() {
    let mut pic = initialised_as_linux_does(false);
    open(&mut pic);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x33);
    pic.write_port(0x20, 0xa0); // rotate on non-specific end
    pulse(&mut pic, 3);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
}

#[test]
fn the_special_mask_lets_lower_priorities_through() {
    let mut pic = initialised_as_linux_does(false);
    open(&mut pic);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pulse(&mut pic, 6);
    pic.write_port(0x20, 0x68);
    assert!(!pic.output());
    pic.write_port(0x21, 0b10); // mask what is in service
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn special_full_nesting_lets_the_second_chip_nest() {
    for (mode, nests) in [(0x01, false), (0x11, true)] {
        let mut pic = initialised_as_linux_does(false);
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 0x04), (0x21, mode), (0x21, 0), (0xa1, 0)] {
            pic.write_port(port, value);
        }
        pulse(&mut pic, 12);
        assert_eq!(pic.acknowledge(), 0x3c);
        pulse(&mut pic, 8);
        assert_eq!(pic.output(), nests, "mode {mode:#x}");
    }
}

#[test]
fn a_poll_acknowledges_and_names_the_input() {
    let mut pic = initialised_as_linux_does(false);
    open(&mut pic);
    pulse(&mut pic, 6);
    for found in [0x86, 0] {
        pic.write_port(0x20, 0x0c);
        assert_eq!(pic.read_port(0x20), Some(found));
    }
    pulse(&mut pic, 11);
    pic.write_port(0xa0, 0x0c);
    assert_eq!(pic.read_port(0xa0), Some(0x83));
}

#[test]
fn every_value_on_every_port_is_harmless() {
    let mut pic = Pic::new();
    for round in 0u32..4 {
        for value in 0..=255u8 {
            for port in [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1] {
                assert!(pic.write_port(port, value.wrapping_mul(31)));
                pic.set_input(u32::from(value) + round * 7, value & 1 == 0);
                pic.acknowledge();
                assert!(pic.read_port(port).is_some());
            }
        }
    }
    assert!(!pic.write_port(0x22, 0) && pic.read_port(0x22).is_none());
    for irq in [2, 16, u32::MAX] {
        let before = pic.clone();
        pic.set_input(irq, true);
        assert_eq!(pic, before);
    }
}
