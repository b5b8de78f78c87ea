//! The stub over a machine that is not there: what a debugger says is hostile, and answered by the protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::fake::FakeGuest;
use super::session::{Events, serve};
use super::target::Machine;
use crate::cpu::debug::{Trap, Traps};
use crate::machine::signal;
use crate::memory::{layout::MIB, map_guest_ram};

/// A packet with its checksum.
fn packet(text: &str) -> Vec<u8> {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    format!("${text}#{sum:02x}").into_bytes()
}

/// What the stub answers to `input`, after which the debugger hangs up.
fn answer(guest: &FakeGuest, input: &[u8]) -> String {
    let memory = map_guest_ram(MIB).unwrap();
    memory.write_slice(b"hello", GuestAddress(0x1000)).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (traps, ended) = (Traps::new().unwrap(), signal().unwrap());
    let input = input.to_vec();
    let debugger = thread::spawn(move || {
        // A stub that has given it up does not read to the end.
        let _ = theirs.write_all(&input);
        let _ = theirs.shutdown(std::net::Shutdown::Write);
        let mut output = Vec::new();
        theirs.read_to_end(&mut output).unwrap();
        String::from_utf8_lossy(&output).into_owned()
    });
    let mut machine = Machine::new(guest, &memory).unwrap();
    let _ = serve(ours, &mut machine, &Events { traps: &traps, ended: &ended });
    expand(&debugger.join().unwrap())
}

/// Answers without run lengths: `0*~` is 98 zeros.
fn expand(text: &str) -> String {
    let mut expanded = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, expanded.chars().last()) {
            ('*', Some(last)) => {
                let times = u32::from(letters.next().unwrap()) - 29;
                (0..times).for_each(|_| expanded.push(last));
            }
            _ => expanded.push(letter),
        }
    }
    expanded
}

fn ask(guest: &FakeGuest, packets: &[&str]) -> String {
    answer(guest, &packets.iter().flat_map(|text| packet(text)).collect::<Vec<_>>())
}

#[test]
fn memory_and_registers_are_read_and_written() {
    let guest = FakeGuest::default();
    guest.0.lock().unwrap()[0].state.regs.rax = 0x1122;
    assert!(ask(&guest, &["m1000,5"]).contains("68656c6c6f"), "hello");
    let registers = ask(&guest, &["g"]);
    let all = registers.split(['$', '#']).nth(1).unwrap();
    assert!(all.starts_with("2211000000000000"), "{registers}");
    assert!(ask(&guest, &[&format!("G{}", all.replacen("2211", "3344", 1))]).contains("$OK#"));
    assert_eq!(guest.0.lock().unwrap()[0].state.regs.rax, 0x4433);
    assert!(ask(&guest, &["M1000,2:4142", "m1000,5"]).contains("41426c6c6f"));
    assert!(ask(&guest, &["m200000,5"]).contains("$E"), "nothing is there");
    assert!(ask(&guest, &["M200000,1:00"]).contains("$E"));
}

#[test]
fn breakpoints_reach_every_vcpu_when_the_guest_goes_on() {
    let guest = FakeGuest::default();
    let output =
        ask(&guest, &["Z0,1234,1", "Z1,ffff,1", "Z0,1,1", "Z0,2,1", "Z0,3,1", "vCont;s:p1.1;c:p1.2"]);
    assert_eq!(output.matches("$OK#").count(), 4, "the engine takes four: {output}");
    assert_eq!(output.matches("$E").count(), 1, "{output}");
    let cpus = guest.0.lock().unwrap().clone();
    assert!(cpus.iter().all(|cpu| cpu.runs && cpu.stops.breakpoints == [1, 2, 0x1234, 0xffff]));
    assert_eq!([cpus[0].stops.step, cpus[1].stops.step], [true, false]);
}

#[test]
fn vcpus_that_are_not_named_stand_still() {
    let guest = FakeGuest::default();
    ask(&guest, &["vCont;s:p1.2"]);
    let cpus = guest.0.lock().unwrap().clone();
    assert_eq!([cpus[0].runs, cpus[1].runs], [false, true]);
}

#[test]
fn a_vcpu_that_has_stopped_is_reported_as_a_thread() {
    let guest = FakeGuest::default();
    let memory = map_guest_ram(MIB).unwrap();
    let mut machine = Machine::new(&guest, &memory).unwrap();
    let reason = machine.reason(1, Trap::Step);
    let step = MultiThreadStopReason::SignalWithThread { tid: Tid::new(2).unwrap(), signal: Signal::SIGTRAP };
    assert_eq!(reason, step);
}

#[test]
fn a_debugger_that_asks_a_guest_that_runs_is_given_up() {
    let guest = FakeGuest::default();
    let output = ask(&guest, &["vCont;c", "g"]);
    assert_eq!(output.matches('$').count(), 0, "{output}");
}

#[test]
fn vcpus_that_are_not_there_are_no_panic() {
    for text in ["Hgp1.7", "Tp1.9", "vCont;c:p1.9", "Hcp1.3", "vCont;s:p1.ffffffffffff"] {
        ask(&FakeGuest::default(), &[text, "g", "m1000,4"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_are_a_panic(input in prop::collection::vec(any::<u8>(), 0..400)) {
        answer(&FakeGuest::default(), &input);
    }

    #[test]
    fn no_packets_are_a_panic(
        texts in prop::collection::vec("(g|G|m|M|X|Z0|Z1|Z2|z0|H|p|P|vCont|vCont;|q|Q|s|c|T|D|k|\\?|qXfer:)[ -\"%-|~]{0,60}", 1..8),
    ) {
        let packets: Vec<&str> = texts.iter().map(String::as_str).collect();
        ask(&FakeGuest::default(), &packets);
    }
}
