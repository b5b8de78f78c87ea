use super::*;

/// A TSC that ticks a thousand times in each tick of the PIT.
const KHZ: u64 = 1_193_182;
const TICK: u64 = 1000;

fn pit() -> Pit {
    Pit::new(TscFrequency::from_khz(KHZ))
}

fn program(pit: &mut Pit, control: u8, count: u16, tsc: u64) {
    let [low, high] = count.to_le_bytes();
    let port = FIRST_CHANNEL + u16::from(control >> 6);
    for (port, value) in [(CONTROL, control), (port, low), (port, high)] {
        assert!(pit.write_port(port, value, tsc));
    }
}

fn read_count(pit: &mut Pit, channel: u16, tsc: u64) -> u16 {
    let mut byte = || pit.read_port(FIRST_CHANNEL + channel, tsc).unwrap();
    u16::from_le_bytes([byte(), byte()])
}

/// Linux' `quick_pit_calibrate`: how the high byte of channel 2 counts down, by the TSC.
fn calibrate_quickly(khz: u64) -> u64 {
    const READ: u64 = 3000; // TSC ticks that a read of a port takes
    let mut pit = Pit::new(TscFrequency::from_khz(khz));
    let mut tsc = 123_456;
    let speaker = pit.read_port(0x61, tsc).unwrap();
    pit.write_port(0x61, (speaker & !2) | 1, tsc);
    program(&mut pit, 0xb0, 0xffff, tsc);
    let mut high_byte_is = |value: u8, tsc: &mut u64| {
        *tsc += 2 * READ;
        pit.read_port(0x42, *tsc - READ);
        pit.read_port(0x42, *tsc) == Some(value)
    };
    high_byte_is(0, &mut tsc);
    let mut edges = Vec::new();
    for value in (0xc0..=0xff).rev() {
        let start = tsc;
        while high_byte_is(value, &mut tsc) {}
        assert!(tsc - start > 5 * 2 * READ, "the kernel wants to see each value at least 6 times");
        edges.push(tsc);
    }
    let ticks = 256 * (edges.len() as u64 - 1);
    (edges.last().unwrap() - edges[0]) * u64::from(CLOCK_HZ) / ticks / 1000
}

#[test]
fn linux_calibrates_its_tsc_quickly() {
    for khz in [1_000_000, 2_000_000, 3_700_123] {
        let measured = calibrate_quickly(khz);
        assert!(measured.abs_diff(khz) * 2000 < khz, "{measured} for {khz}: off by more than 500 ppm");
    }
}

#[test]
fn linux_calibrates_its_tsc_by_the_output_at_port_0x61() {
    let mut pit = pit();
    pit.write_port(0x61, 1, 0);
    program(&mut pit, 0xb0, 11932, 5000); // 10 ms
    let high = |pit: &mut Pit, tsc| pit.read_port(0x61, tsc).unwrap() & 0x20 != 0;
    assert!(!high(&mut pit, 5000));
    assert!(!high(&mut pit, 5000 + 11932 * TICK - 1));
    assert!(high(&mut pit, 5000 + 11932 * TICK));
    assert!(high(&mut pit, 5000 + 70000 * TICK));
}

#[test]
fn the_gate_holds_a_count() {
    let mut pit = pit();
    program(&mut pit, 0xb0, 1000, 0);
    assert_eq!(read_count(&mut pit, 2, 500 * TICK), 1000, "the gate is low at first");
    pit.write_port(0x61, 1, 500 * TICK);
    assert_eq!(read_count(&mut pit, 2, 600 * TICK), 900);
    pit.write_port(0x61, 0, 700 * TICK);
    assert_eq!(read_count(&mut pit, 2, 5000 * TICK), 800);
    pit.write_port(0x61, 3, 6000 * TICK);
    assert_eq!(read_count(&mut pit, 2, 6100 * TICK), 700);
    assert_eq!(pit.read_port(0x61, 6100 * TICK).unwrap() & 0xf, 3);
}

#[test]
fn a_rising_gate_starts_the_modes_that_wait_for_it() {
    let mut pit = pit();
    program(&mut pit, 0xb2, 100, 0); // mode 1
    let high = |pit: &mut Pit, tsc| pit.read_port(0x61, tsc).unwrap() & 0x20 != 0;
    assert!(high(&mut pit, 1000 * TICK));
    pit.write_port(0x61, 1, 1000 * TICK);
    assert!(!high(&mut pit, 1099 * TICK));
    assert!(high(&mut pit, 1100 * TICK));
}

#[test]
fn periodic_modes_raise_irq_0_each_period_and_catch_up_once() {
    for control in [0x34, 0x36] {
        let mut pit = pit();
        program(&mut pit, control, 11932, 7);
        let period = 11932 * TICK;
        assert_eq!(pit.next_tsc(), Some(7 + period), "control {control:#x}");
        assert!(!pit.advance(6 + period));
        assert!(pit.advance(7 + period));
        assert!(pit.advance(7 + 50 * period));
        assert!(!pit.advance(7 + 50 * period));
        assert_eq!(pit.next_tsc(), Some(7 + 51 * period), "control {control:#x}");
    }
}

#[test]
fn one_shot_modes_raise_irq_0_once() {
    for (control, ticks) in [(0x30, 500), (0x38, 501)] {
        let mut pit = pit();
        program(&mut pit, control, 500, 0);
        assert_eq!(pit.next_tsc(), Some(ticks * TICK), "control {control:#x}");
        assert!(pit.advance(ticks * TICK));
        assert_eq!(pit.next_tsc(), None, "control {control:#x}");
    }
}

#[test]
fn a_control_word_stops_the_timer_until_it_gets_a_count() {
    let mut pit = pit();
    program(&mut pit, 0x34, 11932, 0);
    pit.write_port(CONTROL, 0x30, 100);
    assert_eq!(pit.next_tsc(), None);
    pit.write_port(0x40, 0, 200);
    assert_eq!(pit.next_tsc(), None);
    pit.write_port(0x40, 0, 200);
    assert_eq!(pit.next_tsc(), Some(200 + 65536 * TICK), "a count of 0 is 65536");
}

#[test]
fn a_period_of_nothing_leaves_the_guest_time() {
    let mut pit = pit();
    program(&mut pit, 0x34, 1, 0);
    assert_eq!(pit.next_tsc(), Some(239 * TICK));
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let mut pit = pit();
    program(&mut pit, 0x34, 1000, 0);
    pit.write_port(CONTROL, 0x00, 100 * TICK);
    pit.write_port(CONTROL, 0x00, 200 * TICK); // ignored: one is latched
    assert_eq!(read_count(&mut pit, 0, 300 * TICK), 900);
    assert_eq!(read_count(&mut pit, 0, 300 * TICK), 700);
}

#[test]
fn counts_go_through_in_the_bytes_that_the_control_word_says() {
    let mut pit = pit();
    pit.write_port(CONTROL, 0x14, 0); // low byte only
    pit.write_port(0x40, 0x80, 0);
    assert_eq!(pit.read_port(0x40, 0), Some(0x80));
    pit.write_port(CONTROL, 0x24, 0); // high byte only
    pit.write_port(0x40, 0x80, 0);
    assert_eq!(pit.read_port(0x40, 0), Some(0x80));
    assert_eq!(pit.next_tsc(), Some(0x8000 * TICK));
}

#[test]
fn status_is_read_back_before_the_count() {
    let mut pit = pit();
    program(&mut pit, 0x34, 1000, 0);
    pit.write_port(CONTROL, 0xc2, 100 * TICK); // count and status of channel 0
    assert_eq!(pit.read_port(0x40, 0), Some(0x80 | 0x34));
    assert_eq!(read_count(&mut pit, 0, 500 * TICK), 900);
    pit.write_port(CONTROL, 0x74, 0);
    pit.write_port(CONTROL, 0xe4, 0); // status of channel 1: no count yet
    assert_eq!(pit.read_port(0x41, 0), Some(0xc0 | 0x34));
}

#[test]
fn counts_wrap_or_reload_by_mode() {
    for (control, count, ticks, left) in [
        (0x30, 10, 15, 0xfffb), // goes on below zero
        (0x34, 10, 15, 5),
        (0x36, 10, 7, 6), // by two, twice a period
        (0x34, 0, 0, 0),
    ] {
        let mut pit = pit();
        program(&mut pit, control, count, 0);
        assert_eq!(read_count(&mut pit, 0, ticks * TICK), left, "control {control:#x} after {ticks}");
    }
}

#[test]
fn every_value_on_every_port_is_harmless() {
    let mut pit = pit();
    for tsc in [0, 1, u64::MAX, 5] {
        for value in 0..=255 {
            for port in [0x43, 0x40, 0x41, 0x42, 0x61] {
                assert!(pit.write_port(port, value, tsc));
                assert!(pit.read_port(port, tsc).is_some());
                pit.advance(tsc);
            }
        }
    }
    assert!(!pit.write_port(0x60, 0, 0) && pit.read_port(0x60, 0).is_none());
}
