//! Attacks and what keeps them off: capabilities, seccomp, symbolic links, refused configurations.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::{Bundle, Case, push};

pub(crate) const CASES: &[Case] = &[
    ("capabilities_are_exactly_those_configured", capabilities_are_exactly_those_configured),
    ("a_user_has_only_ambient_capabilities", a_user_has_only_ambient_capabilities),
    ("no_new_privileges_is_set", no_new_privileges_is_set),
    ("seccomp_keeps_namespaces_away", seccomp_keeps_namespaces_away),
    ("seccomp_works_without_no_new_privileges", seccomp_works_without_no_new_privileges),
    ("a_linked_proc_is_refused", a_linked_proc_is_refused),
    ("a_linked_mount_target_stays_inside", a_linked_mount_target_stays_inside),
    ("a_linked_dev_stays_inside", a_linked_dev_stays_inside),
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
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
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
