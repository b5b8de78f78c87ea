//! A machine with two processors and no kernel, under the `kvm` engine: both go on in another process from a snapshot.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    thread::sleep,
    time::Duration,
};

use tests::{Client, Engine, Host, kernel_of, wait_for};

/// Where the first processor writes its count, and where the second does.
const COUNTS: [u64; 2] = [0x20_0000, 0x1_0f00];
/// Where the second one starts: the page that the first names to it.
const TRAMPOLINE: u32 = 0x1_0000;
/// Real mode: counts in ECX, and writes that to offset 0xf00 of its code's segment.
const SECOND: [u8; 16] = [
    0x8c, 0xc8, 0x8e, 0xd8, // mov ax, cs; mov ds, ax
    0x66, 0x31, 0xc9, // xor ecx, ecx
    0x66, 0x41, // again: inc ecx
    0x66, 0x89, 0x0e, 0x00, 0x0f, // mov [0xf00], ecx
    0xeb, 0xf7, // jmp again
];
/// Counts in RAX, and writes that to 0x20_0000.
const FIRST: [u8; 16] = [
    0x48, 0x31, 0xc0, // xor rax, rax
    0x48, 0xff, 0xc0, // again: inc rax
    0x48, 0x89, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, // mov [0x200000], rax
    0xeb, 0xf3, // jmp again
];

/// The first processor's code: puts the second's in its place, starts it by INIT and SIPI, and counts.
fn both_count() -> Vec<u8> {
    let length = u8::try_from(SECOND.len()).expect("it is short");
    let after = [
        // mov edi, TRAMPOLINE; mov ecx, length; rep movsb
        &[0xbf][..],
        &TRAMPOLINE.to_le_bytes(),
        &[0xb9, length, 0, 0, 0, 0xf3, 0xa4],
        // The interrupt command register (0x830), to APIC id 1: INIT, then SIPI with the page of the code.
        &[0xb9, 0x30, 0x08, 0, 0, 0xba, 1, 0, 0, 0, 0xb8, 0x00, 0x45, 0, 0, 0x0f, 0x30],
        &[0xb8, 0x10, 0x46, 0, 0, 0x0f, 0x30],
        &FIRST,
    ]
    .concat();
    let distance = u32::try_from(after.len()).expect("it is short");
    // IA32_APIC_BASE: x2APIC on; lea rsi, [rip + distance].
    let before = [0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x0d, 0, 0x0c, 0, 0, 0x0f, 0x30, 0x48, 0x8d, 0x35];
    [&before[..], &distance.to_le_bytes(), &after, &SECOND].concat()
}

/// A machine behind a control socket.
struct Machine<'a> {
    host: &'a Host,
    socket: String,
    process: Client,
}

impl<'a> Machine<'a> {
    fn start(host: &'a Host, name: &str, verb: &[&str]) -> Self {
        let socket = host.path(name).to_str().expect("temporary directories are UTF-8").to_owned();
        let process = host.start(&[&["vm"], verb, &["--api-sock", &socket]].concat());
        let machine = Self { host, socket, process };
        wait_for("the control socket", || {
            machine.host.run(&["vm", "stats", "--api-sock", &machine.socket]).status.success().then_some(())
        });
        machine
    }

    fn tell(&self, verb: &str) {
        assert_eq!(self.host.ok(&["vm", verb, "--api-sock", &self.socket]), "");
    }

    /// Writes a snapshot of the paused machine; the counts in it.
    fn snapshot(&self, state: &Path, memory: &Path) -> [u32; 2] {
        let [state_path, memory_path] = [state, memory].map(|path| path.to_str().expect("UTF-8"));
        let files = ["--state", state_path, "--memory", memory_path];
        assert_eq!(self.host.ok(&[&["vm", "snapshot", "--api-sock", &self.socket], &files[..]].concat()), "");
        let memory = File::open(memory).expect("it was written");
        COUNTS.map(|at| {
            let mut bytes = [0; 4];
            memory.read_exact_at(&mut bytes, at).expect("it is so large");
            u32::from_le_bytes(bytes)
        })
    }

    /// Lets it run until both processors have counted beyond `before`, and pauses it; the counts then.
    fn runs_beyond(&self, before: [u32; 2]) -> [u32; 2] {
        wait_for("both processors count", || {
            self.tell("resume");
            sleep(Duration::from_millis(50));
            self.tell("pause");
            let now = self.snapshot(&self.host.path("probe.state"), &self.host.path("probe.memory"));
            (now[0] > before[0] && now[1] > before[1]).then_some(now)
        })
    }

    fn stop(self) {
        self.tell("stop");
        assert!(self.process.wait().status.success());
    }
}

#[test]
fn two_processors_go_on_in_another_process_where_each_was() {
    let Some(host) = Host::for_vms_with(Engine::Kvm) else { return };
    let path = |name: &str| host.path(name).to_str().expect("UTF-8").to_owned();
    let (kernel, state, memory) = (path("kernel"), path("state"), path("memory"));
    fs::write(&kernel, kernel_of(&both_count())).expect("there is room");

    let boot = ["boot", "--kernel", &kernel, "--cpus", "2", "--memory", "8", "--no-jail"];
    let machine = Machine::start(&host, "1.sock", &boot);
    machine.tell("pause");
    machine.runs_beyond([0, 0]);
    let then = machine.snapshot(host.path("state").as_path(), host.path("memory").as_path());
    machine.stop();

    let restore = ["restore", "--state", &state, "--memory", &memory, "--paused", "--no-jail"];
    for name in ["2.sock", "3.sock"] {
        let clone = Machine::start(&host, name, &restore);
        let begins = clone.snapshot(&host.path("probe.state"), &host.path("probe.memory"));
        assert_eq!(begins, then, "it has not run yet");
        let later = clone.runs_beyond(then);
        println!("the snapshot has {then:?}, a clone comes to {later:?}");
        clone.stop();
    }
}
