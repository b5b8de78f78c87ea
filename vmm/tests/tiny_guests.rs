//! Guests of a few hand-assembled instructions on a real `/dev/kvm`, through the public interface only and under each
//! engine. Skipped, with the reason, where there is none.

#![expect(clippy::unwrap_used, reason = "each function is a test, which a macro makes of it")]

mod snapshots;
mod tiny;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tiny::{Entry, Guest, HALT_FOR_EVER, LOOP_FOR_EVER, RESET, have_kvm, say, under_each_engine};
use vmm::{CpuError, Engine, Milestone, VmExit};

under_each_engine! {
    a_64_bit_guest_writes_to_its_serial_port_and_resets,
    the_boot_timer_marks_come_between_first_run_and_exit,
    a_guest_that_halts_with_interrupts_off_has_powered_off,
    a_guest_that_never_ends_can_be_stopped_quickly,
    the_exit_descriptor_becomes_readable_when_the_guest_ends,
    a_triple_fault_says_where_it_happened,
    reads_of_nothing_are_all_ones,
}

fn a_64_bit_guest_writes_to_its_serial_port_and_resets(engine: Engine) {
    let guest = Guest::new(engine, Entry::Long, &[say(b"ok"), RESET.to_vec()].concat());
    assert_eq!(guest.start().wait().unwrap(), VmExit::Reset);
    assert_eq!(guest.serial_output(), "ok");
}

#[test]
fn a_pvh_guest_finds_its_start_info() {
    if !have_kvm() {
        return;
    }
    // cmp dword [ebx], magic; jne to the reset
    let said = say(b"found");
    let check =
        [&[0x81, 0x3b, 0x78, 0xc5, 0x6e, 0x33, 0x75][..], &[u8::try_from(said.len()).unwrap()]].concat();
    let guest = Guest::new(Engine::Kvm, Entry::Pvh, &[check, said, RESET.to_vec()].concat());
    assert_eq!(guest.start().wait().unwrap(), VmExit::Reset);
    assert_eq!(guest.serial_output(), "found");
}

#[test]
fn the_software_engine_refuses_a_guest_that_starts_in_32_bit_mode() {
    if !have_kvm() {
        return;
    }
    let guest = Guest::new(Engine::Soft, Entry::Pvh, &RESET);
    let refused = guest.try_start().err().expect("it is not to start");
    assert!(refused.to_string().contains("32-bit mode (PVH)"), "{refused}");
    assert!(refused.to_string().contains("--engine kvm"), "what helps: {refused}");
}

fn the_boot_timer_marks_come_between_first_run_and_exit(engine: Engine) {
    // mov dx, 0x3f0; mov al, 123; out dx, al
    let code = [&[0x66, 0xba, 0xf0, 0x03, 0xb0, 123, 0xee][..], &RESET].concat();
    let guest = Guest::new(engine, Entry::Long, &code);
    guest.start().wait().unwrap();
    let events = guest.events();
    let milestones: Vec<Milestone> = events.iter().map(|event| event.milestone).collect();
    assert_eq!(
        milestones,
        [
            Milestone::ConfigParsed,
            Milestone::MemoryMapped,
            Milestone::KvmOpened,
            Milestone::KernelLoaded,
            Milestone::DevicesPlaced,
            Milestone::VcpusReady,
            Milestone::FirstRun,
            Milestone::GuestMark(123),
            Milestone::Exit,
        ]
    );
    assert!(events.is_sorted_by_key(|event| event.at_ns));
}

fn a_guest_that_halts_with_interrupts_off_has_powered_off(engine: Engine) {
    let guest = Guest::new(engine, Entry::Long, &HALT_FOR_EVER);
    assert_eq!(guest.start().wait().unwrap(), VmExit::PoweredOff);
}

fn a_guest_that_never_ends_can_be_stopped_quickly(engine: Engine) {
    let guest = Guest::new(engine, Entry::Long, &[say(b"x"), LOOP_FOR_EVER.to_vec()].concat());
    let mut running = guest.start();
    while guest.serial_output().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(running.try_wait().unwrap(), None);
    let asked = Instant::now();
    assert_eq!(running.stop().unwrap(), VmExit::Stopped);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

fn the_exit_descriptor_becomes_readable_when_the_guest_ends(engine: Engine) {
    let guest = Guest::new(engine, Entry::Long, &RESET);
    let mut running = guest.start();
    let ended = running.exit_fd().as_fd().try_clone_to_owned().unwrap();
    poll(&mut [PollFd::new(&ended, PollFlags::IN)], None).unwrap();
    assert_eq!(running.try_wait().unwrap(), Some(VmExit::Reset));
    assert!(running.try_wait().is_err(), "its end is reported once");
}

fn a_triple_fault_says_where_it_happened(engine: Engine) {
    // int3 without an interrupt table
    let guest = Guest::new(engine, Entry::Long, &[0xcc]);
    let error = guest.start().wait().unwrap_err();
    assert!(matches!(&error, CpuError::Died(_)), "{error}");
    assert!(error.to_string().starts_with("the guest died: triple fault at 0x"), "{error}");
}

#[test]
fn an_instruction_that_kvm_cannot_run_is_named() {
    if !have_kvm() {
        return;
    }
    // popcnt eax, eax: hardware runs it, the emulator of a KVM without hardware does not
    let guest = Guest::new(Engine::Kvm, Entry::Long, &[&[0xf3, 0x0f, 0xb8, 0xc0][..], &RESET].concat());
    match guest.start().wait() {
        Ok(exit) => assert_eq!(exit, VmExit::Reset),
        Err(CpuError::Died(death)) => {
            assert_eq!(death.instruction.as_deref(), Some("popcnt eax,eax"));
            assert_eq!(death.mode, "64-bit mode, ring 0");
            assert_eq!(death.rip, 0x10_0000);
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_instruction_that_the_interpreter_lacks_is_named() {
    if !have_kvm() {
        return;
    }
    // nop; aesenc xmm0, xmm1: no kernel without cryptography in it has that
    let guest =
        Guest::new(Engine::Soft, Entry::Long, &[&[0x90, 0x66, 0x0f, 0x38, 0xdc, 0xc1][..], &RESET].concat());
    let error = guest.start().wait().unwrap_err();
    let CpuError::Died(death) = error else { panic!("{error}") };
    assert_eq!(death.instruction.as_deref(), Some("aesenc xmm0,xmm1"));
    assert_eq!(death.bytes[..5], [0x66, 0x0f, 0x38, 0xdc, 0xc1]);
    assert_eq!((death.mode.as_str(), death.rip), ("64-bit mode, ring 0", 0x10_0001));
}

fn reads_of_nothing_are_all_ones(engine: Engine) {
    // mov dx, 0x1234 (a port that nobody has); in eax, dx; cmp eax, -1; jne to the reset
    let said = say(b"ones");
    let check =
        [&[0x66, 0xba, 0x34, 0x12, 0xed, 0x83, 0xf8, 0xff, 0x75][..], &[u8::try_from(said.len()).unwrap()]];
    let guest = Guest::new(engine, Entry::Long, &[check.concat(), said, RESET.to_vec()].concat());
    assert_eq!(guest.start().wait().unwrap(), VmExit::Reset);
    assert_eq!(guest.serial_output(), "ones");
}
