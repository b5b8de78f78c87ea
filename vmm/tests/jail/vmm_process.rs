//! A whole VMM in its jail, run by this very program.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use vmm::api::{Client, Restore};
use vmm::snapshot::Overrides;
use vmm::{
    BootEvent, Control, Engine, JailConfig, ProcessError, ProcessOptions, SerialConfig, VmConfig, VmExit,
    VmProcess,
};

use super::again;
use crate::elf::{Entry, LOOP_FOR_EVER, RESET, elf, say};

/// `mov [0xd00000fc], eax`: a register of the first virtio device that is not there. Its device says so in the log.
const WRITE_NO_REGISTER: [u8; 5] = [0xa3, 0xfc, 0x00, 0x00, 0xd0];

/// A log whose every line needs a file. No VMM has such a one: it stands for code that an attacker runs.
struct OpensFiles;

impl Subscriber for OpensFiles {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("vmm::virtio::mmio")
    }
    fn event(&self, _: &Event<'_>) {
        let _ = File::open("/etc/passwd");
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

pub(super) fn be_a_vmm() -> ExitCode {
    tracing::subscriber::set_global_default(OpensFiles).unwrap();
    vmm::process::main(Box::new(()))
}

/// A machine that runs `code`, with a directory of its own.
fn machine(code: &[u8]) -> (tempfile::TempDir, VmConfig) {
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, elf(Entry::Pvh, code)).unwrap();
    let mut config = VmConfig::new(kernel, 4);
    config.engine = Engine::Kvm;
    config.serial = SerialConfig::File(directory.path().join("serial"));
    (directory, config)
}

fn spawn(config: &VmConfig, events: &Arc<Mutex<Vec<BootEvent>>>) -> VmProcess {
    try_spawn(config, events).unwrap()
}

fn try_spawn(config: &VmConfig, events: &Arc<Mutex<Vec<BootEvent>>>) -> Result<VmProcess, ProcessError> {
    let options = ProcessOptions { jail: Some(JailConfig::for_machine(7)), ..ProcessOptions::default() };
    VmProcess::spawn(config, options, events.clone())
}

pub(super) fn a_forbidden_call_of_a_vcpu_is_named() {
    let (_directory, mut config) = machine(&[&WRITE_NO_REGISTER[..], &RESET].concat());
    config.rng = Some(vmm::RngConfig::default());
    // It may end before it is said to run.
    let error = try_spawn(&config, &Arc::default()).and_then(VmProcess::wait).unwrap_err();
    assert!(matches!(&error, ProcessError::Forbidden { thread, .. } if thread == "vcpu0"), "{error}");
    assert!(
        error.to_string().contains("seccomp filter: system call openat (257) in thread vcpu0"),
        "{error}"
    );
}

pub(super) fn runs_a_guest_to_its_end() {
    let (directory, config) = machine(&[say(b"ok"), RESET.to_vec()].concat());
    let events = Arc::default();
    assert_eq!(spawn(&config, &events).wait().unwrap(), VmExit::Reset);
    assert_eq!(std::fs::read_to_string(directory.path().join("serial")).unwrap(), "ok");
    let events = events.lock().unwrap();
    assert!(events.is_sorted_by_key(|event| event.at_ns) && events.len() > 7, "{events:?}");
}

pub(super) fn serves_clients_and_is_restored() {
    let write = say(b".");
    let back = [0xeb, (-2 - i8::try_from(write.len()).unwrap()).cast_unsigned()];
    let (directory, mut config) = machine(&[&write[..], &back].concat());
    config.disks = vec![vmm::DiskConfig::new(directory.path().join("disk"))];
    std::fs::write(&config.disks[0].path, [0; 512]).unwrap();
    let (root, socket) = (directory.path().join("root"), directory.path().join("api"));
    let written = || std::fs::metadata(directory.path().join("serial")).map_or(0, |serial| serial.len());
    let goes_on = |from| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while written() <= from {
            assert!(Instant::now() < deadline, "the guest does not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let listener = UnixListener::bind(&socket).unwrap();
    let control = Some(Control { listener: &listener, id: "test" });
    let client = Client::new(&socket);
    let files = json!({ "snapshot_path": "state", "mem_file_path": "/memory" });
    let paused = json!({ "state": "Paused" });
    let drive = json!({ "drive_id": "drive0", "path_on_host": "/etc/passwd" });

    let jail = Some(JailConfig::for_machine(7).with_root(&root).unwrap());
    let options = ProcessOptions { jail, control, ..ProcessOptions::default() };
    let first = VmProcess::spawn(&config, options, Arc::new(Mutex::new(Vec::new()))).unwrap();
    goes_on(0);
    client.patch("/vm", &paused).unwrap();
    assert!(client.patch("/drives/drive0", &drive).unwrap_err().to_string().contains("jail's root only"));
    client.put("/snapshot/create", &files).unwrap();
    assert_eq!(first.stop().unwrap(), VmExit::Stopped);

    let from = written();
    let options =
        ProcessOptions { jail: Some(JailConfig::for_machine(8)), control, ..ProcessOptions::default() };
    let snapshot =
        Restore { state: root.join("state"), memory: root.join("memory"), overrides: Overrides::default() };
    let second = VmProcess::restore(snapshot, true, options, Arc::new(Mutex::new(Vec::new()))).unwrap();
    goes_on(from);
    client.patch("/vm", &paused).unwrap();
    assert!(client.put("/snapshot/create", &files).unwrap_err().to_string().contains("--jail-root DIR"));
    assert!(client.patch("/drives/drive0", &drive).unwrap_err().to_string().contains("--jail-root DIR"));
    assert_eq!(second.stop().unwrap(), VmExit::Stopped);
}

pub(super) fn be_a_parent() {
    let (_directory, config) = machine(&LOOP_FOR_EVER);
    let machine = spawn(&config, &Arc::default());
    println!("{}", machine.pid());
    std::thread::sleep(Duration::from_secs(600));
}

pub(super) fn a_vmm_ends_with_its_parent() {
    let mut parent = again(&["parent"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let status = format!("/proc/{}/status", pid.trim());
    assert!(std::fs::exists(&status).unwrap(), "its VMM runs");
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
        assert!(Instant::now() < deadline, "the VMM has outlived its parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resident code of a process in KiB.
fn resident_code(pid: u32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let code = smaps.split_inclusive("VmFlags").filter(|mapping| mapping.contains(" r-xp "));
    let rss = code.filter_map(|mapping| mapping.lines().find_map(|line| line.strip_prefix("Rss:")));
    rss.map(|rss| rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum()
}

pub(super) fn a_vmm_gives_code_back() {
    let (_directory, config) = machine(&LOOP_FOR_EVER);
    let machine = spawn(&config, &Arc::default());
    let before = resident_code(machine.pid());
    let deadline = Instant::now() + Duration::from_secs(10);
    while resident_code(machine.pid()) > before * 3 / 4 {
        assert!(Instant::now() < deadline, "{} of {before} KiB are left", resident_code(machine.pid()));
        std::thread::sleep(Duration::from_millis(20));
    }
    machine.request_stop();
    assert_eq!(machine.wait().unwrap(), VmExit::Stopped, "it went on without");
}
