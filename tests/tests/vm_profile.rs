//! `carve vm profile`: where a guest's kernel spends its instructions.

use tests::{Host, initramfs_with, kernel};

/// The guest's directory has a System.map beside the kernel.
fn profile(host: &Host, script: &str, args: &[&str]) -> std::process::Output {
    let initrd = initramfs_with(&host.path(""), script);
    let mut profile = host.carve(&["vm", "profile", "--memory", "128", "--kernel"]);
    profile.arg(kernel().expect("the host has one")).arg("--initrd").arg(initrd).args(args);
    let output = profile.output().expect("carve runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output
}

#[test]
fn the_kernels_instructions_are_counted_by_symbol_until_the_guest_powers_off() {
    let Some(host) = Host::for_vms() else { return };
    let script = "/bin/busybox echo init says hello\n/bin/busybox poweroff -f";
    let output = profile(&host, script, &["--json", "--top", "5"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("init says hello"), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(report["end"], "powered_off");
    assert!(number("kernel_instructions") > 1_000_000, "{report}");
    assert!(number("native_entries") > 0 && number("user_instructions") > 0, "{report}");
    let symbols = report["symbols"].as_array().unwrap();
    let spent: Vec<_> = symbols.iter().map(|symbol| symbol["instructions"].as_u64().unwrap()).collect();
    assert!(symbols.len() == 5 && spent.is_sorted_by(|a, b| a >= b), "{report}");
    let all = spent.iter().sum::<u64>() + report["others"]["instructions"].as_u64().unwrap();
    // Instructions that are not kept decoded, such as those across two pages, have no place in the table.
    assert!(all > number("kernel_instructions") / 10 * 9, "{report}");
    assert!(symbols.iter().all(|symbol| !symbol["symbol"].as_str().unwrap().starts_with("0x")), "{report}");
}

#[test]
fn a_guest_that_does_not_end_is_stopped_when_its_time_is_up() {
    let Some(host) = Host::for_vms() else { return };
    let output = profile(&host, "/bin/busybox sleep 1000", &["--seconds", "3"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("it was stopped") && text.contains("CUMULATIVE"), "{text}");
}

/// A boot's budget: half as much again as it takes, so that what grows it by a feature's worth is noticed.
const MOST_INSTRUCTIONS: u64 = 21_000_000;

#[test]
fn the_agents_boot_is_counted_to_the_point_where_it_is_ready_and_stays_within_its_budget() {
    let Some(host) = Host::for_vms() else { return };
    let kernel = kernel().unwrap();
    let mut profile =
        host.carve(&["vm", "profile", "--until-ready", "--json", "--seconds", "60", "--kernel"]);
    let output = profile.arg(&kernel).arg("--initrd").arg(kernel.with_file_name("initramfs.cpio")).output();
    let output = output.expect("carve runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["end"], "stopped", "{report}");
    let instructions = report["kernel_instructions"].as_u64().unwrap();
    assert!((1_000_000..MOST_INSTRUCTIONS).contains(&instructions), "{report}");
    // It ended at the mark rather than when its time was up: the agent would have halted, waiting for an app.
    assert!(report["halted_ns"].as_u64().unwrap() < 10_000_000_000, "{report}");
}

#[test]
fn a_file_that_holds_no_symbols_is_refused_before_the_guest_starts() {
    let Some(host) = Host::for_vms() else { return };
    let kernel = kernel().unwrap();
    let kernel = kernel.to_str().unwrap();
    let error = host.fails(125, &["vm", "profile", "--kernel", kernel, "--symbols", "/no/such/map"]);
    assert!(error.contains("/no/such/map"), "{error}");
    let error = host.fails(125, &["vm", "profile", "--kernel", kernel, "--symbols", kernel]);
    assert!(error.contains(kernel), "{error}");
}
