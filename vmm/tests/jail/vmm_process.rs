//! A whole VMM in its jail, run by this very program.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use vmm::{
    BootEvent, Engine, JailConfig, ProcessError, ProcessOptions, SerialConfig, VmConfig, VmExit, VmProcess,
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
