//! The control socket of a virtual machine: Firecracker's clients drive it, and our own verbs.

#![expect(clippy::unwrap_used, reason = "part of tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{Host, initramfs_with, kernel, skip, wait_for};

/// The commands of Firecracker's getting-started guide, their bodies as they are there.
const GUIDE: [(&str, &str); 4] = [
    (
        "boot-source",
        r#"{
          "kernel_image_path": "./hello-vmlinux.bin",
          "boot_args": "console=ttyS0 reboot=k panic=1 pci=off"
      }"#,
    ),
    (
        "drives/rootfs",
        r#"{
          "drive_id": "rootfs",
          "path_on_host": "./hello-rootfs.ext4",
          "is_root_device": true,
          "is_read_only": false
      }"#,
    ),
    (
        "machine-config",
        r#"{
        "vcpu_count": 1,
        "mem_size_mib": 1024
    }"#,
    ),
    (
        "actions",
        r#"{
          "action_type": "InstanceStart"
       }"#,
    ),
];

/// What curl says of a request, as the guide has it.
fn curl(socket: &Path, path: &str, body: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--unix-socket"]).arg(socket).args(["-i", "-X", "PUT"]);
    curl.arg(format!("http://localhost/{path}"));
    curl.args(["-H", "Accept: application/json", "-H", "Content-Type: application/json", "-d", body]);
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_of_firecrackers_guide_start_a_guest() {
    let Some(host) = Host::for_vms() else { return };
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("no curl; `apt-get install curl`");
    }
    let script =
        "echo the root file system is there: $(/bin/busybox stat -f -c %T /)\n/bin/busybox reboot -f";
    let _archive = initramfs_with(&host.path(""), script);
    let tree = host.path("initramfs");
    std::fs::create_dir(tree.join("sbin")).unwrap();
    std::fs::rename(tree.join("init"), tree.join("sbin/init")).unwrap();
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.arg("-q").arg("-d").arg(&tree).arg(host.path("hello-rootfs.ext4")).arg("16M");
    assert!(mkfs.status().unwrap().success());
    std::os::unix::fs::symlink(kernel().unwrap(), host.path("hello-vmlinux.bin")).unwrap();

    let socket = host.path("firecracker.sock");
    let mut serve = host.carve(&["vm", "serve", "--api-sock", socket.to_str().unwrap()]);
    let serve = serve.current_dir(host.path("")).stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_for("the control socket", || socket.exists().then_some(()));
    for (path, body) in GUIDE {
        let answer = curl(&socket, path, body);
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{path}: {answer}");
    }
    let output = serve.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("the root file system is there: ext"), "{said}");
    assert!(!socket.exists(), "the socket goes with its server");
}

/// Runs `carve ARGS…`, which succeeds and has nothing to say.
fn quietly(host: &Host, args: &[&str]) {
    assert_eq!(host.ok(args), "", "{args:?}");
}

/// Writes a machine to a file that counts on its serial port, into `log`.
fn counting_machine(host: &Host) -> String {
    let script = "i=0; while true; do echo count $i; i=$((i + 1)); /bin/busybox usleep 20000; done";
    let initrd = initramfs_with(&host.path(""), script);
    let machine = json!({
        "boot-source": { "kernel_image_path": kernel().unwrap(), "initrd_path": initrd, "boot_args": "quiet" },
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 128 },
        "serial": { "serial_out_path": host.path("log") },
        "entropy": {},
        "balloon": { "amount_mib": 0, "deflate_on_oom": true },
    });
    let path = host.path("vm.json");
    std::fs::write(&path, machine.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The last number that the guest has counted to.
fn count(host: &Host) -> Option<u64> {
    let log = std::fs::read_to_string(host.path("log")).unwrap_or_default();
    // The last line may be half a line.
    let (lines, _) = log.rsplit_once('\n')?;
    lines.lines().rev().find_map(|line| line.strip_prefix("count ")?.trim().parse().ok())
}

#[test]
fn a_machine_goes_on_in_another_process_from_its_snapshot() {
    let Some(host) = Host::for_vms() else { return };
    let machine = counting_machine(&host);
    let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let (first, second, state, memory) = (path("1.sock"), path("2.sock"), path("state"), path("memory"));

    let serve = host.start(&["vm", "serve", "--api-sock", &first, "--config", &machine]);
    wait_for("the guest to count", || count(&host).filter(|count| *count > 0));
    quietly(&host, &["vm", "pause", "--api-sock", &first]);
    let then = count(&host);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(&host), then, "a paused guest stands still");
    quietly(
        &host,
        &["vm", "snapshot", "--api-sock", &first, "--state", &state, "--memory", &memory, "--resume"],
    );
    wait_for("the guest to go on", || count(&host).filter(|count| Some(*count) > then));
    let stats = host.json(&["vm", "stats", "--api-sock", &first, "--format", "json"]);
    assert!(stats["balloon"].is_object() && stats["entropy"].is_object(), "{stats}");
    quietly(&host, &["vm", "stop", "--api-sock", &first]);
    assert!(serve.wait().status.success());

    let error = host.fails(125, &["vm", "pause", "--api-sock", &first]);
    assert!(error.contains("carve vm serve"), "{error}");

    let restore = ["vm", "restore", "--state", &state, "--memory", &memory, "--api-sock", &second];
    let restored = host.start(&[&restore[..], &["--paused"]].concat());
    wait_for("the control socket", || {
        host.run(&["vm", "stats", "--api-sock", &second]).status.success().then_some(())
    });
    let before = std::fs::read_to_string(host.path("log")).unwrap().len();
    quietly(&host, &["vm", "resume", "--api-sock", &second]);
    wait_for("the restored guest to count", || {
        let log = std::fs::read_to_string(host.path("log")).unwrap();
        log[before..].lines().filter(|line| line.starts_with("count ")).nth(2).map(drop)
    });
    let log = std::fs::read_to_string(host.path("log")).unwrap();
    let next = log[before..].lines().find_map(|line| line.strip_prefix("count ")?.trim().parse::<u64>().ok());
    assert!(next > then && next <= then.map(|then| then + 2), "after {then:?} came {next:?}");
    quietly(&host, &["vm", "stop", "--api-sock", &second]);
    assert!(restored.wait().status.success());
}
