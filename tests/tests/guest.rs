//! What programs in a guest see of their machine, under each engine: `guest-checks` is the guest's init and says on the
//! console how each of its checks went.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::{Engine, Host, initramfs_of_checks, kernel};

/// Checks of the CPU, of memory and of time.
const CHECKS: &[&str] = &[
    "vector-yielding",
    "vector-spinning",
    "signals-faults",
    "signals-own-step",
    "signals-stack",
    "signals-timer",
    "signals-vector",
    "memory-protect",
    "memory-discard",
    "memory-move",
    "memory-copy-on-write",
    "memory-shared",
    "memory-pressure",
    "jit-in-place",
    "jit-two-mappings",
    "programs-again",
    "threads-local",
    "threads-futex",
    "time-order",
    "time-shared",
    "time-sleep",
    "time-busy",
    "time-idle",
    "trace-step",
    "trace-system-call",
    "compat-call",
    "compat-loop",
    "compat-program",
];
/// Those of them that reach what the KVM engine does by itself, without those that start many processes or signals: where
/// KVM has no hardware behind it, a fork takes a second.
const CHECKS_OF_KVM: &[&str] = &[
    "vector-yielding",
    "signals-own-step",
    "signals-stack",
    "signals-timer",
    "jit-in-place",
    "jit-two-mappings",
    "time-order",
    "time-idle",
];

/// Bytes of the disk that is copied.
const DISK: usize = 50 << 20;

/// What a guest said on its console, each line with the time at which it came.
struct Console(Vec<(Instant, String)>);

impl Console {
    /// Asserts that each check went well, and that none is missing.
    fn assert_ok(&self, checks: &[&str]) {
        let missing: Vec<_> =
            checks.iter().filter(|check| !self.says(&format!("guest-checks: {check} ok"))).collect();
        // Without the kernel's own words.
        let text: Vec<_> =
            self.0.iter().map(|(_, line)| line.as_str()).filter(|line| !line.starts_with('[')).collect();
        assert!(
            missing.is_empty() && self.says("guest-checks: done"),
            "{missing:?} of:\n{}",
            text.join("\n")
        );
    }

    /// Whether a line has this in it.
    fn says(&self, what: &str) -> bool {
        self.0.iter().any(|(_, line)| line.contains(what))
    }

    /// How long a clock check took by the guest's clock and by ours.
    fn clock(&self, name: &str) -> (Duration, Duration) {
        let find = |what: String| {
            self.0.iter().find_map(|(at, line)| line.split_once(&what).map(|(_, rest)| (*at, rest)))
        };
        let (begin, _) = find(format!("clock {name} begins")).expect("it began");
        let (end, rest) = find(format!("clock {name} ends after ")).expect("it ended");
        let microseconds = rest.trim_end_matches(" us").parse().expect("a number of microseconds");
        (Duration::from_micros(microseconds), end - begin)
    }
}

/// Boots a guest with these words for its init and these disks, and waits for its end.
fn boot(host: &Host, words: &[&str], disks: &[&str]) -> Console {
    let kernel = kernel().expect("the host has one");
    let initrd = initramfs_of_checks(&host.path(""));
    let cmdline = format!("-- {}", words.join(" "));
    let mut boot = host.carve(&["vm", "boot", "--memory", "128", "--cmdline", &cmdline]);
    boot.arg("--kernel").arg(kernel).arg("--initrd").arg(initrd).stdout(Stdio::piped());
    for disk in disks {
        boot.arg("--disk").arg(host.path(disk));
    }
    let mut guest = boot.spawn().expect("carve starts");
    let lines = BufReader::new(guest.stdout.take().expect("asked for above")).lines();
    let console = Console(lines.map(|line| (Instant::now(), line.unwrap_or_default())).collect());
    let status = guest.wait().expect("it can be waited for");
    assert!(status.success(), "{status:?}: {:?}", console.0.last());
    console
}

/// Asserts that the guest's clock has gone as ours has, but for what writing to the console takes.
fn assert_clocks_agree(console: &Console, name: &str, apart: Duration) {
    let (theirs, ours) = console.clock(name);
    assert!(theirs.abs_diff(ours) < apart, "{name}: {theirs:?} there, {ours:?} here");
}

#[test]
fn programs_find_a_sound_machine_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let console = boot(&host, CHECKS, &[]);
    console.assert_ok(CHECKS);
    assert_clocks_agree(&console, "idle", Duration::from_millis(50));
    assert_clocks_agree(&console, "busy", Duration::from_millis(50));
}

#[test]
fn programs_find_a_sound_machine_under_kvm() {
    let Some(host) = Host::for_vms_with(Engine::Kvm) else { return };
    let console = boot(&host, CHECKS_OF_KVM, &[]);
    console.assert_ok(CHECKS_OF_KVM);
    assert_clocks_agree(&console, "idle", Duration::from_millis(500));
}

#[test]
fn what_a_guest_copies_from_disk_to_disk_arrives_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let bytes: Vec<u8> =
        (0..DISK as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    std::fs::write(host.path("from"), &bytes).unwrap();
    std::fs::File::create(host.path("to")).unwrap().set_len(DISK as u64).unwrap();
    boot(&host, &["disk-copy"], &["from", "to"]).assert_ok(&["disk-copy"]);
    let copied = std::fs::read(host.path("to")).unwrap();
    assert!(
        copied == bytes,
        "{:?} is the first byte that differs",
        copied.iter().zip(&bytes).position(|(a, b)| a != b)
    );
}

#[test]
fn a_guest_ends_as_it_likes_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    for (ending, said) in [
        ("poweroff", "reboot: "),
        ("reboot", "reboot: Restarting system"),
        ("panic", "Kernel panic - not syncing: sysrq triggered crash"),
        ("leave", "Kernel panic - not syncing: Attempted to kill init!"),
    ] {
        let console = boot(&host, &[ending], &[]);
        console.assert_ok(&[]);
        assert!(console.says(said), "{ending}: {:?}", console.0.last());
    }
}
