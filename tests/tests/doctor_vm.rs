//! `carve doctor --vm`: a report on virtual machines as they run on this host.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Client, Host, processes, wait_for};

#[test]
fn the_report_has_each_check_of_a_guest_with_its_figures() {
    let Some(host) = Host::for_vms() else { return };
    let output = host.run(&["doctor", "--vm", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
    for fact in ["kernel", "CPU", "KVM", "KVM has", "repairs (kvm)"] {
        assert!(report["host"][fact].as_str().is_some_and(|fact| !fact.is_empty()), "{fact}: {report:#}");
    }
    let find = |engine: &str, what: &str| {
        let checks = report["checks"].as_array().expect("a list");
        let found = checks.iter().find(|check| check["engine"] == engine && check["check"] == what);
        found.unwrap_or_else(|| panic!("no {what} of {engine}: {report:#}"))
    };
    for what in [
        "tiny guest",
        "boot",
        "cpus",
        "timers",
        "disk",
        "entropy",
        "vsock",
        "network",
        "interrupts",
        "clock",
        "snapshot",
        "disk's file",
        "restore",
        "clock after it",
        "random numbers",
    ] {
        assert_eq!(find("soft", what)["outcome"], "ok", "{what}");
    }
    assert!(find("soft", "boot")["ms"].as_f64().is_some_and(|ms| ms > 1.0));
    assert_eq!(find("kvm", "tiny guest")["outcome"], "ok");
}

#[test]
fn a_guest_that_is_not_there_is_a_failure_that_says_what_to_do() {
    let Some(host) = Host::for_vms() else { return };
    let output = host.run(&["doctor", "--vm", "--guest-dir", "/no/such/directory"]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("FAILED") && report.contains("/no/such/directory"), "{report}");
}

#[test]
fn an_examination_that_is_interrupted_leaves_nothing_behind() {
    let Some(host) = Host::for_vms() else { return };
    let temporary = host.path("temporary");
    fs::create_dir(&temporary).expect("it is new");
    let entries = || fs::read_dir(&temporary).expect("it is there").count();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = host.carve(&["doctor", "--vm"]);
        let doctor = Client::start(command.env("TMPDIR", &temporary));
        let machines = wait_for("a machine runs", || {
            let machines = processes(doctor.pid()).split_off(1);
            (entries() > 0 && machines.len() > 1).then_some(machines)
        });
        doctor.signal(signal);
        let output = doctor.wait();
        assert_eq!((output.status.code(), entries()), (Some(125), 0), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("interrupted"), "{complaint}");
        wait_for("its machines end", || {
            machines
                .iter()
                .all(|id| !fs::exists(format!("/proc/{id}")).expect("there is /proc"))
                .then_some(())
        });
    }
}
