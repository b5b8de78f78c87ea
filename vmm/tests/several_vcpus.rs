//! Tiny guests with several vCPUs, on a real `/dev/kvm`. Skipped, with the reason, where there is none.

#![expect(clippy::unwrap_used, reason = "parts of tests")]

#[expect(dead_code, unused_macros, unused_imports, reason = "what the other tests of tiny guests need")]
mod tiny;

use std::fs;
use std::time::{Duration, Instant};

use tiny::{Entry, Guest, HALT_FOR_EVER, LOOP_FOR_EVER, RESET, have_kvm, say};
use vmm::{Engine, RunningVm, VmConfig, VmExit};

/// Where the other vCPU starts, in real mode with this address as its code segment: `AFTER_SIPI << 12`.
const TRAMPOLINE: u32 = 0x1_0000;
/// Says "ap", writes 1 to offset 0xf00 of its segment, and halts.
const OTHER_VCPU: [u8; 22] = [
    0xba, 0xf8, 0x03, 0xb0, b'a', 0xee, 0xb0, b'p', 0xee, // mov dx, 0x3f8; mov al, 'a'; out dx, al; …
    0x8c, 0xc8, 0x8e, 0xd8, // mov ax, cs; mov ds, ax
    0xc6, 0x06, 0x00, 0x0f, 0x01, // mov byte [0xf00], 1
    0xfa, 0xf4, 0xeb, 0xfd, // cli; hlt; jmp back
];

/// The first vCPU's code: puts the other's in its place, starts it by INIT and SIPI, waits for it, says "ok", resets.
fn starts_the_other() -> Vec<u8> {
    let before = [
        // IA32_APIC_BASE: x2APIC on.
        &[0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x0d, 0, 0x0c, 0, 0, 0x0f, 0x30][..],
        // lea rsi, [rip + …]
        &[0x48, 0x8d, 0x35],
    ]
    .concat();
    let after = [
        // mov edi, TRAMPOLINE; mov ecx, length; rep movsb
        &[0xbf][..],
        &TRAMPOLINE.to_le_bytes(),
        &[0xb9, u8::try_from(OTHER_VCPU.len()).unwrap(), 0, 0, 0, 0xf3, 0xa4],
        // The interrupt command register (0x830), to APIC id 1: INIT, then SIPI with the page of the code.
        &[0xb9, 0x30, 0x08, 0, 0, 0xba, 1, 0, 0, 0, 0xb8, 0x00, 0x45, 0, 0, 0x0f, 0x30],
        &[0xb8, 0x10, 0x46, 0, 0, 0x0f, 0x30],
        // cmp byte [TRAMPOLINE + 0xf00], 1; jne back
        &[0x80, 0x3c, 0x25, 0x00, 0x0f, 0x01, 0x00, 0x01, 0x75, 0xf6],
        &say(b"ok"),
        &RESET,
    ]
    .concat();
    let distance = u32::try_from(after.len()).unwrap();
    [&before[..], &distance.to_le_bytes(), &after, &OTHER_VCPU].concat()
}

fn start(code: &[u8], change: impl FnOnce(&mut VmConfig)) -> (Guest, RunningVm) {
    let guest = Guest::new(Engine::Kvm, Entry::Long, code);
    let running = guest.try_start_with(|config| {
        config.vcpus = 2;
        change(config);
    });
    (guest, running.unwrap())
}

#[test]
fn the_first_vcpu_starts_the_second() {
    if !have_kvm() {
        return;
    }
    let (guest, running) = start(&starts_the_other(), |_| {});
    assert_eq!(running.wait().unwrap(), VmExit::Reset);
    assert_eq!(guest.serial_output(), "apok");
}

#[test]
fn a_guest_that_never_starts_its_second_vcpu_can_power_off_and_be_stopped() {
    if !have_kvm() {
        return;
    }
    let (_guest, running) = start(&HALT_FOR_EVER, |_| {});
    assert_eq!(running.wait().unwrap(), VmExit::PoweredOff);
    let (_guest, running) = start(&LOOP_FOR_EVER, |_| {});
    assert_eq!(running.stop().unwrap(), VmExit::Stopped);
}

#[test]
fn vcpus_are_bound_to_the_hosts_cpus() {
    if !have_kvm() {
        return;
    }
    let allowed = allowed("/proc/self/status").unwrap();
    let cpu: u16 = allowed.split(['-', ',']).next().unwrap().parse().unwrap();
    let (_guest, _running) = start(&LOOP_FOR_EVER, |config| config.cpu_affinity = vec![vec![cpu], vec![cpu]]);
    let begun = Instant::now();
    while !threads("vcpu1").contains(&cpu.to_string()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", threads("vcpu1"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_cpu_that_the_host_lacks_is_named() {
    if !have_kvm() {
        return;
    }
    let (_guest, running) = start(&LOOP_FOR_EVER, |config| config.cpu_affinity = vec![vec![1023]]);
    let error = running.wait().unwrap_err().to_string();
    assert!(error.starts_with("vCPU 0 cannot run on the host's CPUs [1023]"), "{error}");
}

#[test]
fn the_software_engine_refuses_a_second_vcpu_and_says_what_takes_it() {
    if !have_kvm() {
        return;
    }
    let guest = Guest::new(Engine::Soft, Entry::Long, &RESET);
    let refused = guest.try_start_with(|config| config.vcpus = 2).err().expect("it is not to start");
    assert!(
        refused.to_string().contains("2 vCPUs") && refused.to_string().contains("--engine kvm"),
        "{refused}"
    );
}

/// The CPUs that our threads of this name may run on.
fn threads(name: &str) -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let named = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.filter_map(|task| allowed(task.path().join("status").to_str()?)).collect()
}

fn allowed(status: &str) -> Option<String> {
    let status = fs::read_to_string(status).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()))
}
