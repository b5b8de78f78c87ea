//! Machines with a control socket in a jail: what their clients reach, and what the host sees of them.

#![expect(clippy::unwrap_used, reason = "part of tests")]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, Host, initramfs_with, kernel, wait_for};

/// What a guest does that says that it goes on.
const COUNT: &str = "i=0; while true; do echo count $i; i=$((i + 1)); /bin/busybox usleep 20000; done";

/// What the machine at `socket` answers: status and body.
fn ask(socket: &Path, method: &str, place: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length:";
    stream.write_all(format!("{method} {place} {head} {length}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{place}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn done(socket: &Path, method: &str, place: &str, body: &Value) {
    let answer = ask(socket, method, place, body);
    assert_eq!(answer, (204, String::new()), "{method} {place} {body}");
}

/// The request is refused, for a reason with these words.
fn refused(socket: &Path, method: &str, place: &str, body: &Value, words: &str) {
    let (status, said) = ask(socket, method, place, body);
    assert!(status == 400 && said.contains(words), "{method} {place} {body}: {status} {said}");
}

/// The process of the machine that `command` has started.
fn vmm(command: &Client) -> u32 {
    let pid = command.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// The fields of a process's status.
fn status(pid: u32) -> impl Fn(&str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    move |field| {
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        value.unwrap_or_else(|| panic!("no {field} in {text}")).replace('\t', " ")
    }
}

/// The process has no rights, is nobody and alone; each of its threads is confined.
fn is_jailed(pid: u32, uid: u32) {
    let field = status(pid);
    assert_eq!(field("Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs").as_str(), field("NSpid")), ("1", format!("{pid} 1")));
    let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap).collect();
    assert!(tasks.len() >= 3, "{tasks:?}");
    for task in tasks {
        let text = std::fs::read_to_string(task.path().join("status")).unwrap();
        // One that runs the kernel's code only has none of ours.
        assert!(text.contains("Seccomp:\t2\n") || text.contains("Name:\tkvm-"), "{text}");
    }
    let host = |space: &str| std::fs::read_link(format!("/proc/self/ns/{space}")).unwrap();
    let own = |space: &str| std::fs::read_link(format!("/proc/{pid}/ns/{space}")).unwrap();
    for space in ["mnt", "pid", "net", "ipc", "uts"] {
        assert_ne!(own(space), host(space), "{space}");
    }
}

/// The last number that the guest has counted to, on a console whose output is in `file`.
fn count(file: &Path) -> Option<u64> {
    let log = std::fs::read_to_string(file).unwrap_or_default();
    let (lines, _) = log.rsplit_once('\n')?;
    lines.lines().rev().find_map(|line| line.strip_prefix("count ")?.trim().parse().ok())
}

fn stop(host: &Host, socket: &Path) {
    assert_eq!(host.ok(&["vm", "stop", "--api-sock", socket.to_str().unwrap()]), "");
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

#[test]
fn a_jailed_machine_goes_on_from_its_snapshot_and_has_the_files_of_its_root_only() {
    let Some(host) = Host::for_vms() else { return };
    let initrd = text(initramfs_with(&host.path(""), COUNT));
    let path = |name: &str| text(host.path(name));
    let kernel = text(kernel().unwrap());
    let (log, disk, first) = (path("log"), path("disk"), host.path("1.sock"));
    std::fs::write(host.path("disk"), [0; 4096]).unwrap();
    let boot = ["vm", "boot", "--kernel", &kernel, "--initrd", &initrd, "--memory", "128", "--disk", &disk];
    let console = format!("file={log}");
    let control = ["--api-sock", first.to_str().unwrap(), "--jail-root", &path("jail")];
    let words = ["--cmdline", "quiet console=hvc0", "--console", &console];
    let machine = host.start(&[&boot[..], &words, &control].concat());
    wait_for("the guest counts", || count(log.as_ref()).filter(|count| *count > 0));
    let root = std::fs::metadata(host.path("jail")).unwrap();
    assert!(root.uid() >= 0x7000_0000);
    is_jailed(vmm(&machine), root.uid());

    let drive = |path: &str| json!({ "drive_id": "drive0", "path_on_host": path });
    let files = |dir: &str| json!({ "snapshot_path": format!("{dir}/state"), "mem_file_path": format!("{dir}/memory") });
    refused(&first, "PATCH", "/drives/drive0", &drive("/etc/passwd"), "--jail-root");
    refused(&first, "PATCH", "/drives/drive0", &drive("../../etc/passwd"), "--jail-root");
    std::fs::write(host.path("jail/other"), [0; 8192]).unwrap();
    chown(host.path("jail/other"), Some(root.uid()), Some(root.gid())).unwrap();
    done(&first, "PATCH", "/drives/drive0", &drive("other"));
    done(&first, "PATCH", "/vm", &json!({ "state": "Paused" }));
    refused(&first, "PUT", "/snapshot/create", &files(&path("")), "--jail-root");
    done(&first, "PUT", "/snapshot/create", &files(""));
    let then = count(log.as_ref());
    stop(&host, &first);
    assert!(machine.wait().status.success());

    let (state, memory, second) = (path("jail/state"), path("jail/memory"), host.path("2.sock"));
    let restore = ["vm", "restore", "--state", &state, "--memory", &memory, "--api-sock"];
    let restored = host.start(&[&restore[..], &[second.to_str().unwrap()]].concat());
    wait_for("the restored guest counts", || count(log.as_ref()).filter(|count| Some(*count) > then));
    // The disk that a client gave it in its jail, by its name on the host.
    let (_, config) = ask(&second, "GET", "/vm/config", &Value::Null);
    assert!(config.contains(&format!("\"path_on_host\":\"{}\"", path("jail/other"))), "{config}");
    let uid: u32 = status(vmm(&restored))("Uid").split(' ').next().unwrap().parse().unwrap();
    assert!(uid >= 0x7000_0000);
    is_jailed(vmm(&restored), uid);
    done(&second, "PATCH", "/vm", &json!({ "state": "Paused" }));
    refused(&second, "PUT", "/snapshot/create", &files("/vsock"), "start it with --jail-root DIR");
    refused(&second, "PATCH", "/drives/drive0", &drive(&disk), "start it with --jail-root DIR");
    done(&second, "PATCH", "/drives/drive0", &json!({ "drive_id": "drive0" }));
    done(&second, "PATCH", "/vm", &json!({ "state": "Resumed" }));
    stop(&host, &second);
    assert!(restored.wait().status.success());
}

#[test]
fn clients_describe_a_machine_from_files_in_its_jails_root() {
    let Some(host) = Host::for_vms() else { return };
    let socket = host.path("api.sock");
    let serve = ["vm", "serve", "--api-sock", socket.to_str().unwrap(), "--jail-root"];
    let root = host.path("jail");
    let machine = host.start(&[&serve[..], &[root.to_str().unwrap()]].concat());
    let initrd = initramfs_with(&host.path(""), COUNT);
    wait_for("it answers", || UnixStream::connect(&socket).ok());
    let owner = wait_for("its root", || std::fs::metadata(&root).ok().filter(|root| root.uid() > 0));
    for (name, from) in [("vmlinux", kernel().unwrap()), ("initrd", initrd)] {
        std::fs::copy(from, root.join(name)).unwrap();
    }
    for name in ["disk", "other"] {
        std::fs::write(root.join(name), [0; 4096]).unwrap();
        chown(root.join(name), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let start = || json!({ "action_type": "InstanceStart" });
    let boot =
        |kernel: &str| json!({ "kernel_image_path": kernel, "initrd_path": "/initrd", "boot_args": "quiet" });
    done(&socket, "PUT", "/boot-source", &boot(kernel().unwrap().to_str().unwrap()));
    refused(&socket, "PUT", "/actions", &start(), "in its jail's root only");
    done(&socket, "PUT", "/boot-source", &boot("/vmlinux"));
    let tap = json!({ "iface_id": "eth0", "host_dev_name": "tap0" });
    done(&socket, "PUT", "/network-interfaces/eth0", &tap);
    refused(&socket, "PUT", "/actions", &start(), "by --tap tap0");
    machine.signal(rustix::process::Signal::TERM);
    assert!(machine.wait().status.success());

    // Again, with the tap, in the root that is there by now.
    let machine = host.start(&[&serve[..], &[root.to_str().unwrap(), "--tap", "tap0"]].concat());
    wait_for("it answers", || UnixStream::connect(&socket).ok());
    for (place, body) in [
        ("/boot-source", boot("vmlinux")),
        ("/network-interfaces/eth0", tap),
        ("/drives/d", json!({ "drive_id": "d", "path_on_host": "disk", "is_root_device": false })),
        ("/vsock", json!({ "guest_cid": 3, "uds_path": "v.sock" })),
        ("/serial", json!({ "serial_out_path": "log" })),
        ("/logger", json!({ "log_path": "logs", "level": "Debug" })),
        ("/metrics", json!({ "metrics_path": "metrics" })),
        ("/entropy", json!({})),
        ("/actions", start()),
    ] {
        done(&socket, "PUT", place, &body);
    }
    wait_for("the guest counts", || count(&root.join("log")).filter(|count| *count > 0));
    is_jailed(vmm(&machine), owner.uid());
    done(&socket, "PATCH", "/drives/d", &json!({ "drive_id": "d", "path_on_host": "other" }));
    refused(
        &socket,
        "PATCH",
        "/drives/d",
        &json!({ "drive_id": "d", "path_on_host": "/dev/kvm" }),
        "--jail-root",
    );
    done(&socket, "PUT", "/actions", &json!({ "action_type": "FlushMetrics" }));
    assert!(std::fs::read_to_string(root.join("metrics")).unwrap().contains("\"entropy\""));
    done(&socket, "PATCH", "/vm", &json!({ "state": "Paused" }));
    let files = json!({ "snapshot_path": "/state", "mem_file_path": "memory" });
    done(&socket, "PUT", "/snapshot/create", &files);
    let then = count(&root.join("log"));
    assert!(root.join("v.sock").exists());
    stop(&host, &socket);
    assert!(machine.wait().status.success());
    assert!(!root.join("v.sock").exists(), "the machine's socket goes with it");

    let machine = host.start(&[&serve[..], &[root.to_str().unwrap(), "--tap", "tap0"]].concat());
    wait_for("it answers", || UnixStream::connect(&socket).ok());
    let load = json!({ "snapshot_path": "state", "mem_file_path": "/memory", "resume_vm": true });
    done(&socket, "PUT", "/snapshot/load", &load);
    wait_for("the guest goes on", || count(&root.join("log")).filter(|count| Some(*count) > then));
    is_jailed(vmm(&machine), owner.uid());
    stop(&host, &socket);
    assert!(machine.wait().status.success());
}

#[test]
fn a_root_that_belongs_to_root_is_refused() {
    let Some(host) = Host::for_vms() else { return };
    let (socket, root) = (text(host.path("api.sock")), text(host.path("")));
    let error = host.fails(125, &["vm", "serve", "--api-sock", &socket, "--jail-root", &root]);
    assert!(error.contains("belongs to root") && error.contains("chown -R"), "{error}");
    let error = host.fails(125, &["vm", "serve", "--api-sock", &socket, "--jail-root", &root, "--no-jail"]);
    assert!(error.contains("--no-jail"), "{error}");
}
