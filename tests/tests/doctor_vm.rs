//! `carve doctor --vm`: a report on virtual machines as they run on this host.

use serde_json::Value;
use tests::Host;

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
