//! What the runtime specification 1.2 says of a container's process, root filesystem and mounts, as
//! opencontainers/runtime-tools checks it in `validation/`: see `oci_validation.rs`.

use std::fs;

use serde_json::{Value, json};
use tests::Host;

/// Configuration, "Process": a change, a script, and what it prints.
#[test]
fn the_process_is_what_the_configuration_says() {
    let Some(host) = Host::for_containers() else { return };
    let cases: [(&str, Value, &str, &str); 8] = [
        ("/process/cwd", json!("/tmp"), "pwd", "/tmp\n"),
        ("/process/env", json!(["PATH=/bin", "A=b", "EMPTY="]), "echo $A ${EMPTY-unset}.", "b .\n"),
        ("/process/args", json!(["echo", "one two", "", "three"]), "", "one two  three\n"),
        (
            "/process/user",
            json!({"uid": 10, "gid": 11, "additionalGids": [5, 12], "umask": 0o27}),
            "id -u; id -g; id -G; umask",
            "10\n11\n11 5 12\n0027\n",
        ),
        ("/process/oomScoreAdj", json!(500), "cat /proc/self/oom_score_adj", "500\n"),
        ("/process/noNewPrivileges", json!(true), "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 128, "hard": 256}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
            "ulimit -n; ulimit -Hn; ulimit -c",
            "128\n256\n0\n",
        ),
        ("/process/terminal", json!(false), "test -t 0 || echo none", "none\n"),
    ];
    for (field, value, script, expected) in cases {
        let (parent, name) = field.rsplit_once('/').unwrap();
        let printed = host.oci_prints(script, |config| config.pointer_mut(parent).unwrap()[name] = value);
        assert_eq!(printed, expected, "{field}");
    }
}

/// "Linux Process", capabilities: each set holds what is asked for, and nothing when none is.
#[test]
fn capability_sets_are_as_asked_for() {
    let Some(host) = Host::for_containers() else { return };
    let sets = "grep -E '^Cap' /proc/self/status";
    let printed = host.oci_prints(sets, |config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
        });
        config["process"]["user"] = json!({"uid": 1, "gid": 1});
    });
    let set = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    // CHOWN is bit 0, KILL 5, NET_BIND_SERVICE 10. An exec by another user than root keeps the ambient ones.
    assert_eq!((set("CapBnd"), set("CapInh"), set("CapAmb")), (0x421, 1, 1), "{printed}");
    assert_eq!((set("CapPrm"), set("CapEff")), (1, 1), "{printed}");
    // One that no kernel has is left out with a warning.
    let unknown = host.oci_prints(sets, |config| {
        config["process"]["capabilities"] = json!({"bounding": ["CAP_NO_SUCH", "CAP_KILL"]});
    });
    assert!(unknown.contains("CapBnd:\t0000000000000020\n"), "{unknown}");
    let none = host.oci_prints(sets, |config| config["process"]["capabilities"] = json!({}));
    assert!(none.lines().all(|line| line.ends_with("0000000000000000")), "{none}");
}

/// Runtimes "MUST generate an error" for values that are invalid; the error names the field.
#[test]
fn wrong_values_of_a_process_are_refused() {
    let Some(host) = Host::for_containers() else { return };
    let twice = json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 2}]);
    for (name, value) in [
        ("cwd", json!("relative")),
        ("args", json!([])),
        ("rlimits", json!([{"type": "RLIMIT_TEST", "soft": 1, "hard": 2}])),
        ("rlimits", twice),
        ("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}])),
        ("oomScoreAdj", json!(1001)),
        ("apparmorProfile", json!("carve-no-such-profile")),
        ("selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0")),
    ] {
        let said = host.oci_refuses(|config| config["process"][name] = value.clone());
        assert!(said.contains(&format!("process.{name}")), "{name} {value}: {said}");
    }
}

/// "Root": read-only or not. "Linux-specific", maskedPaths and readonlyPaths.
#[test]
fn the_root_and_named_paths_cannot_be_written_or_read() {
    let Some(host) = Host::for_containers() else { return };
    let write = "(echo > /file) 2>/dev/null && echo written || echo refused";
    assert_eq!(host.oci_prints(write, |_| ()), "written\n");
    assert_eq!(host.oci_prints(write, |config| config["root"]["readonly"] = json!(true)), "refused\n");
    let look = "cat /etc/secret; ls /tmp/hidden; (echo > /etc/kept) 2>/dev/null || echo refused; \
                (echo > /etc/kept-dir/new) 2>/dev/null || echo refused";
    let printed = host.oci_prints(&format!("{look}; cat /etc/kept"), |config| {
        let rootfs = host.path("printing/rootfs");
        fs::create_dir_all(rootfs.join("tmp/hidden/file")).unwrap();
        fs::create_dir(rootfs.join("etc/kept-dir")).unwrap();
        for name in ["secret", "kept"] {
            fs::write(rootfs.join("etc").join(name), "content\n").unwrap();
        }
        config["linux"]["maskedPaths"] = json!(["/etc/secret", "/tmp/hidden", "/not/there"]);
        config["linux"]["readonlyPaths"] = json!(["/etc/kept", "/etc/kept-dir", "/not/there"]);
    });
    assert_eq!(printed, "refused\nrefused\ncontent\n");
}

/// "Mounts": all, in their order, with their options; recursive binds bring what is mounted below them.
#[test]
fn mounts_are_made_in_order_with_their_options() {
    let Some(host) = Host::for_containers() else { return };
    let (source, below) = (host.path("source"), host.path("source/below"));
    fs::create_dir_all(&below).unwrap();
    fs::write(source.join("file"), "content\n").unwrap();
    let mount =
        |args: &[&str]| assert!(std::process::Command::new("mount").args(args).status().unwrap().success());
    mount(&["-t", "tmpfs", "carve-below", below.to_str().unwrap()]);
    fs::write(below.join("deep"), "deep\n").unwrap();
    let script = "cat /one/file /two/below/deep /three/inner/file; ls /one/below; \
                  for m in /one /two /three; do (echo > $m/new) 2>/dev/null && echo $m written; done; \
                  (echo > /two/below/new) 2>/dev/null && echo below; grep -E ' /three ' /proc/self/mounts";
    let printed = host.oci_prints(script, |config| {
        let bind = |at: &str, options: &[&str]| json!({"destination": at, "source": &source, "options": options});
        let tmpfs = json!({"destination": "/three", "type": "tmpfs", "source": "carve", "options": ["nosuid", "noexec", "size=64k", "mode=755"]});
        config["mounts"].as_array_mut().unwrap().extend([
            bind("/one", &["bind", "ro"]),
            bind("/two", &["rbind", "rro"]),
            tmpfs,
            bind("/three/inner", &["bind"]),
        ]);
    });
    assert!(std::process::Command::new("umount").arg(&below).status().unwrap().success());
    let (said, mounted) = printed.split_at(printed.find("carve /three").unwrap());
    assert_eq!(said, "content\ndeep\ncontent\n/three written\n");
    for option in ["nosuid", "noexec", "size=64k", "mode=755"] {
        assert!(mounted.contains(option), "{option}: {mounted}");
    }
}

/// "Default Filesystems" and "Default Devices" of Linux containers, with the configuration that `spec` writes.
#[test]
fn the_default_configuration_has_the_default_filesystems_and_devices() {
    let Some(host) = Host::for_containers() else { return };
    let script = "grep -cE '^(proc /proc proc|sysfs /sys sysfs|devpts /dev/pts devpts|[^ ]* /dev/shm tmpfs) ' \
                  /proc/self/mounts; for d in null zero full random urandom tty; do test -c /dev/$d && echo $d; done; \
                  for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; pwd; id -u";
    let printed = host.oci_prints(script, |_| ());
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert_eq!(printed, format!("4\nnull\nzero\nfull\nrandom\nurandom\ntty\n{links}/\n0\n"));
}
