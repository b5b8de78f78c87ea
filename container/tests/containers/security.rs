//! Attacks and what keeps them off: capabilities, seccomp, symbolic links, refused configurations.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Bundle, Case, push, read_all};

pub(crate) const CASES: &[Case] = &[
    ("capabilities_are_exactly_those_configured", capabilities_are_exactly_those_configured),
    ("a_user_has_only_ambient_capabilities", a_user_has_only_ambient_capabilities),
    ("no_new_privileges_is_set", no_new_privileges_is_set),
    ("seccomp_keeps_namespaces_away", seccomp_keeps_namespaces_away),
    ("seccomp_works_without_no_new_privileges", seccomp_works_without_no_new_privileges),
    ("a_linked_proc_is_refused", a_linked_proc_is_refused),
    ("a_linked_mount_target_stays_inside", a_linked_mount_target_stays_inside),
    ("a_linked_dev_stays_inside", a_linked_dev_stays_inside),
    ("a_linked_parent_of_a_mount_target_stays_inside", a_linked_parent_of_a_mount_target_stays_inside),
    (
        "the_root_path_may_climb_or_be_a_link_and_must_be_a_directory",
        the_root_path_may_climb_or_be_a_link_and_must_be_a_directory,
    ),
    (
        "masked_paths_that_are_swapped_meanwhile_lead_nowhere",
        masked_paths_that_are_swapped_meanwhile_lead_nowhere,
    ),
    (
        "a_null_device_that_is_swapped_meanwhile_covers_nothing_else",
        a_null_device_that_is_swapped_meanwhile_covers_nothing_else,
    ),
    ("proc_cannot_be_mounted_over", proc_cannot_be_mounted_over),
    ("a_false_null_device_is_noticed", a_false_null_device_is_noticed),
    (
        "what_is_not_supported_is_refused_and_leaves_nothing",
        what_is_not_supported_is_refused_and_leaves_nothing,
    ),
];

fn capabilities_are_exactly_those_configured() {
    let bundle = Bundle::script("busybox grep ^Cap /proc/self/status").with(|config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    });
    let output = bundle.output();
    // At exec root would get the whole bounding set; no_new_privs leaves it what it has and what is ambient.
    for expected in ["CapBnd:\t0000000000000421", "CapInh:\t0000000000000020", "CapPrm:\t0000000000000021"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    let none = Bundle::script("busybox grep ^Cap /proc/self/status")
        .with(|config| drop(config["process"].as_object_mut().unwrap().remove("capabilities")))
        .output();
    assert_eq!(none.matches("\t0000000000000000").count(), 5, "{none}");
}

fn a_user_has_only_ambient_capabilities() {
    let bundle = Bundle::script("busybox grep ^Cap /proc/self/status").with(|config| {
        config["process"]["user"] = json!({"uid": 12, "gid": 34});
        let sets = &mut config["process"]["capabilities"];
        sets["inheritable"] = json!(["CAP_KILL"]);
        sets["ambient"] = json!(["CAP_KILL"]);
    });
    let output = bundle.output();
    for expected in ["CapPrm:\t0000000000000020", "CapEff:\t0000000000000020", "CapAmb:\t0000000000000020"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert!(output.contains("CapBnd:\t00000000a80425fb"), "{output}");
}

fn no_new_privileges_is_set() {
    let output = Bundle::script("busybox grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status").output();
    assert_eq!(output, "NoNewPrivs:\t1\nSeccomp:\t2\n");
}

fn seccomp_keeps_namespaces_away() {
    let ended = Bundle::script("unshare -n true; unshare -U true").with(all_capabilities).run();
    assert_eq!(ended.output.matches("Operation not permitted").count(), 2, "{ended:?}");
    let allowed = Bundle::script("unshare -n true && echo done")
        .with(all_capabilities)
        .with(|config| drop(config["linux"].as_object_mut().unwrap().remove("seccomp")));
    assert_eq!(allowed.output(), "done\n");
}

/// So that only the filter is in the way.
fn all_capabilities(config: &mut serde_json::Value) {
    let names = ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID"];
    config["process"]["capabilities"] = json!({"bounding": names, "permitted": names, "effective": names});
}

fn seccomp_works_without_no_new_privileges() {
    let bundle = Bundle::script("busybox grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status; unshare -U true")
        .with(|config| config["process"]["noNewPrivileges"] = json!(false));
    let output = bundle.run().output;
    assert!(output.starts_with("NoNewPrivs:\t0\nSeccomp:\t2\n"), "{output}");
    assert!(output.contains("Operation not permitted"), "{output}");
}

fn a_linked_proc_is_refused() {
    for link in ["/etc", "../../../../../../etc", "etc"] {
        let bundle = Bundle::new(&["true"]);
        let proc = bundle.rootfs().join("proc");
        fs::remove_dir(&proc).unwrap();
        symlink(link, &proc).unwrap();
        let error = bundle.create_error();
        assert!(error.contains("mounts: /proc: must be a plain directory"), "{link}: {error}");
    }
}

fn a_linked_mount_target_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), "data").unwrap();
    for climb in ["", "../../../../../../../.."] {
        let bundle = Bundle::script("cat /volume/file").with(|config| {
            let source = data.path().to_str().unwrap();
            let mount =
                json!({"destination": "/volume", "type": "bind", "source": source, "options": ["bind"]});
            push(&mut config["mounts"], mount);
        });
        let target = format!("{climb}{}", outside.path().display());
        symlink(&target, bundle.rootfs().join("volume")).unwrap();
        assert_eq!(bundle.output(), "data");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{target}");
        let inside = bundle.rootfs().join(outside.path().strip_prefix("/").unwrap());
        assert!(inside.is_dir(), "the target was made inside: {target}");
    }
}

fn a_linked_dev_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let bundle = Bundle::script("ls /dev/null");
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(outside.path(), bundle.rootfs().join("dev")).unwrap();
    assert_eq!(bundle.output(), "/dev/null\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn proc_cannot_be_mounted_over() {
    for (destination, allowed) in
        [("/proc/sys/kernel/core_pattern", false), ("/proc/self/attr", false), ("/proc/uptime", true)]
    {
        let bundle = Bundle::new(&["true"]).with(|config| {
            let mount = json!({"destination": destination, "source": "/dev/null", "type": "bind"});
            push(&mut config["mounts"], mount);
        });
        if allowed {
            bundle.output();
        } else {
            let error = bundle.create_error();
            assert!(error.contains("nothing may be mounted over"), "{destination}: {error}");
        }
    }
}

fn a_false_null_device_is_noticed() {
    let fake = tempfile::tempdir().unwrap();
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(fake.path().join(name), "readable").unwrap();
    }
    let bundle = Bundle::new(&["true"]).with(|config| {
        let source = fake.path().to_str().unwrap();
        config["mounts"] = json!([{"destination": "/proc", "type": "proc"},
                                  {"destination": "/dev", "type": "bind", "source": source}]);
    });
    let error = bundle.create_error();
    assert!(error.contains("masked paths: /dev/null: is not the null device"), "{error}");
}

fn what_is_not_supported_is_refused_and_leaves_nothing() {
    let cases = [
        ("/process/terminal", json!(true), "process.terminal"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile"),
        ("/linux/intelRdt", json!({}), "linux.intelRdt"),
        ("/linux/resources/blockIO", json!({"weight": 5}), "blockIO"),
        ("/linux/rootfsPropagation", json!("public"), "linux.rootfsPropagation"),
        ("/root/path", json!("no-such-rootfs"), "rootfs"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "x"}), "linux.sysctl.kernel.core_pattern"),
        ("/process/args", json!([]), "process.args"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]),
            "linux.devices[0]",
        ),
    ];
    for (pointer, value, expected) in cases {
        let bundle = Bundle::new(&["true"]).with(|config| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value;
        });
        let error = bundle.create_error();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

fn a_linked_parent_of_a_mount_target_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), "data").unwrap();
    for link in [outside.path().to_str().unwrap(), "../../../../../../../etc", "/proc/self/root/etc"] {
        let bundle = Bundle::script("cat /parent/volume/deep/file").with(|config| {
            let mount = json!({"destination": "/parent/volume/deep", "type": "bind", "source": data.path()});
            push(&mut config["mounts"], mount);
        });
        symlink(link, bundle.rootfs().join("parent")).unwrap();
        // A magic link is refused; others are resolved within the root filesystem.
        if link.starts_with("/proc") {
            assert!(bundle.create_error().contains("mounts: /parent/volume/deep"), "{link}");
        } else {
            assert_eq!(bundle.output(), "data");
        }
        assert!(!Path::new("/etc/volume").exists());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
    }
}

fn the_root_path_may_climb_or_be_a_link_and_must_be_a_directory() {
    let bundle = Bundle::script("cat /etc/mark");
    fs::write(bundle.rootfs().join("etc/mark"), "mine").unwrap();
    symlink("rootfs", bundle.dir.path().join("link")).unwrap();
    fs::write(bundle.dir.path().join("plain"), "").unwrap();
    let name = bundle.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
    let absolute = bundle.rootfs().display().to_string();
    let mut bundle = bundle;
    for path in ["rootfs", "./rootfs/", "link", &format!("../{name}/rootfs"), &absolute] {
        bundle.config["root"]["path"] = json!(path);
        assert_eq!(bundle.output(), "mine", "{path}");
    }
    for path in ["plain", "none", "", "/", "/..", "rootfs/bin/busybox", "/dev/null"] {
        bundle.config["root"]["path"] = json!(path);
        let error = bundle.create_error();
        assert!(error.contains("root.path"), "{path}: {error}");
    }
}

/// Runs a script of the host again and again while `act` does something.
fn racing(script: &str, act: impl FnOnce()) {
    let command = format!("while :; do {script}; done");
    let mut racer = Command::new("/bin/busybox").args(["sh", "-c", &command]).spawn().unwrap();
    act();
    racer.kill().unwrap();
    racer.wait().unwrap();
}

fn masked_paths_that_are_swapped_meanwhile_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "host").unwrap();
    let bundle =
        Bundle::script("cat /etc/hidden/file /etc/kept/file; echo x > /etc/kept/file; true").with(|config| {
            push(&mut config["linux"]["maskedPaths"], json!("/etc/hidden"));
            push(&mut config["linux"]["readonlyPaths"], json!("/etc/kept"));
        });
    let etc = bundle.rootfs().join("etc");
    for dir in ["hidden", "kept"] {
        fs::create_dir(etc.join(dir)).unwrap();
        symlink(outside.path(), etc.join(format!("{dir}.link"))).unwrap();
    }
    let swap = "for n in hidden kept; do mv -T $n $n.dir; mv -T $n.link $n; mv -T $n $n.link; mv -T $n.dir $n; done 2> /dev/null";
    racing(&format!("cd {}; {swap}", etc.display()), || {
        for _ in 0..20 {
            let output = tempfile::tempfile().unwrap();
            // A path that is being moved may be missed, or reported; it is never one of the host's.
            if let Ok(mut container) = bundle.create(&output) {
                let _started = container.start();
                container.wait().unwrap();
                container.delete().unwrap();
            }
            assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "host");
            let text = read_all(&mut output.try_clone().unwrap());
            assert!(!text.contains("host"), "{text}");
        }
    });
    fs::write(outside.path().join("file"), "still writable").unwrap();
}

fn a_null_device_that_is_swapped_meanwhile_covers_nothing_else() {
    let dev = tempfile::tempdir().unwrap();
    for (name, minor) in [("null", "3"), ("zero", "5"), ("full", "7"), ("random", "8"), ("urandom", "9")] {
        let path = dev.path().join(name);
        assert!(
            Command::new("/bin/busybox")
                .arg("mknod")
                .arg(path)
                .args(["c", "1", minor])
                .status()
                .unwrap()
                .success()
        );
    }
    fs::write(dev.path().join("secret"), "readable").unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.path().join("link")).unwrap();
    let bundle = Bundle::script("cat /etc/secret").with(|config| {
        config["mounts"] = json!([{"destination": "/proc", "type": "proc"},
                                  {"destination": "/dev", "type": "bind", "source": dev.path()}]);
        push(&mut config["linux"]["maskedPaths"], json!("/etc/secret"));
    });
    fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
    let swap = "mv -T null real; mv -T link null; mv -T null link; mv -T secret null; mv -T null secret; mv -T real null";
    let (mut masked, mut noticed) = (0, 0);
    racing(&format!("cd {}; {swap}", dev.path().display()), || {
        for _ in 0..20 {
            let mut output = tempfile::tempfile().unwrap();
            match bundle.create(&output) {
                Err(error) => {
                    assert!(error.to_string().contains("masked paths: /dev/null"), "{error}");
                    noticed += 1;
                }
                Ok(mut container) => {
                    let _started = container.start();
                    container.wait().unwrap();
                    container.delete().unwrap();
                    // Empty, or the complaint of cat that this is no longer the null device of /dev.
                    assert_eq!(read_all(&mut output), "");
                    masked += 1;
                }
            }
        }
    });
    assert_eq!(masked + noticed, 20);
}
