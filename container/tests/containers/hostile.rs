//! Configurations that are wrong or meant to do harm: each is refused with an error that names the field, and
//! nothing is left of it. The census is the harness's, around each table.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::{Bundle, Case};

pub(crate) const CASES: &[Case] = &[
    ("wrong_types_are_refused_by_name", wrong_types_are_refused_by_name),
    ("wrong_processes_are_refused_by_name", wrong_processes_are_refused_by_name),
    ("wrong_mounts_are_refused_by_name", wrong_mounts_are_refused_by_name),
    ("wrong_namespaces_are_refused_by_name", wrong_namespaces_are_refused_by_name),
    ("wrong_resources_are_refused_by_name", wrong_resources_are_refused_by_name),
    ("wrong_filters_are_refused_by_name", wrong_filters_are_refused_by_name),
    ("wrong_hooks_and_the_rest_are_refused_by_name", wrong_hooks_and_the_rest_are_refused_by_name),
    ("files_that_are_no_configuration_are_refused", files_that_are_no_configuration_are_refused),
    ("hostile_root_filesystems_keep_everything_inside", hostile_root_filesystems_keep_everything_inside),
];

/// A place in the configuration, what is put there, and what the error must name.
type Wrong = (&'static str, Value, &'static str);

fn check(cases: &[Wrong]) {
    let mut failures = Vec::new();
    for (pointer, value, expected) in cases {
        let bundle = Bundle::new(&["true"]).with(|config| put(config, pointer, value.clone()));
        let outcome = bundle.outcome();
        match outcome {
            Err(error) if error.contains(expected) && error.len() < 1500 && !error.contains("panicked") => {}
            outcome => failures.push(format!("{pointer} = {value}: {outcome:?}, and not {expected:?}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Sets what a pointer names, making the objects on the way; `-` adds to a list.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for part in pointer.split('/').skip(1) {
        place = match part {
            "-" => {
                if !place.is_array() {
                    *place = json!([]);
                }
                let list = place.as_array_mut().unwrap();
                list.push(Value::Null);
                list.last_mut().unwrap()
            }
            index if place.is_array() => &mut place[index.parse::<usize>().unwrap()],
            name => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[name]
            }
        };
    }
    *place = value;
}

fn wrong_types_are_refused_by_name() {
    check(&[
        ("/ociVersion", json!(1), "ociVersion"),
        ("/ociVersion", Value::Null, "ociVersion"),
        ("/ociVersion", json!(""), "ociVersion"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/root", json!([]), "root"),
        ("/root/path", json!(7), "root.path"),
        ("/root/readonly", json!("yes"), "root.readonly"),
        ("/process", json!("sh"), "process"),
        ("/process/args", json!("sh"), "process.args"),
        ("/process/args", json!([1]), "process.args[0]"),
        ("/process/env", json!({"A": "b"}), "process.env"),
        ("/process/env", json!([null]), "process.env[0]"),
        ("/process/cwd", json!([]), "process.cwd"),
        ("/process/user", json!("root"), "process.user"),
        ("/process/user/uid", json!(-1), "process.user.uid"),
        ("/process/user/uid", json!(4_294_967_296_u64), "process.user.uid"),
        ("/process/user/gid", json!("wheel"), "process.user.gid"),
        ("/process/user/additionalGids", json!([1.5]), "process.user.additionalGids"),
        ("/process/user/umask", json!("022"), "process.user.umask"),
        ("/process/terminal", json!("false"), "process.terminal"),
        ("/process/noNewPrivileges", json!(1), "process.noNewPrivileges"),
        ("/process/oomScoreAdj", json!("low"), "process.oomScoreAdj"),
        ("/process/capabilities", json!(["CAP_KILL"]), "process.capabilities"),
        ("/process/rlimits", json!({}), "process.rlimits"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}]), "process.rlimits[0]"),
        ("/mounts", json!({}), "mounts"),
        ("/mounts/-", json!([]), "mounts["),
        ("/mounts/-", json!({"type": "tmpfs"}), "mounts["),
        ("/mounts/-", json!({"destination": "/x", "type": 1}), "type"),
        ("/mounts/-", json!({"destination": "/x", "type": "tmpfs", "options": "ro"}), "options"),
        ("/hostname", json!(1), "hostname"),
        ("/domainname", json!([]), "domainname"),
        ("/annotations", json!([]), "annotations"),
        ("/annotations", json!({"a": 1}), "annotations.a"),
        ("/hooks/poststop", json!({}), "hooks.poststop"),
        ("/linux", json!([]), "linux"),
        ("/linux/namespaces", json!({}), "linux.namespaces"),
        ("/linux/namespaces/-", json!("pid"), "linux.namespaces["),
        ("/linux/devices", json!({}), "linux.devices"),
        ("/linux/maskedPaths", json!("/proc"), "linux.maskedPaths"),
        ("/linux/readonlyPaths", json!([1]), "linux.readonlyPaths[0]"),
        ("/linux/sysctl", json!([]), "linux.sysctl"),
        ("/linux/sysctl", json!({"kernel.msgmax": 1}), "linux.sysctl"),
        ("/linux/seccomp", json!([]), "linux.seccomp"),
        ("/linux/uidMappings", json!({}), "linux.uidMappings"),
        ("/linux/cgroupsPath", json!(1), "linux.cgroupsPath"),
    ]);
}

fn wrong_processes_are_refused_by_name() {
    let rlimit = |kind: &str, soft: u64, hard: u64| json!([{"type": kind, "soft": soft, "hard": hard}]);
    check(&[
        ("/process", Value::Null, "process is missing"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\0b"]), "process.args"),
        ("/process/args", json!([""]), "executable file not found"),
        ("/process/args", json!(["/"]), "permission denied"),
        ("/process/args", json!(["../../../../no/such/program"]), "executable file not found"),
        ("/process/env", json!(["A=b\0"]), "process.env"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/cwd", json!("/a\0b"), "process.cwd"),
        ("/process/cwd", json!("/bin/busybox"), "working directory"),
        ("/process/cwd", json!("/proc/self/fd/3"), "working directory"),
        ("/process/user/uid", json!(u32::MAX), "process.user.uid"),
        ("/process/user/gid", json!(u32::MAX), "process.user.gid"),
        ("/process/user/additionalGids", json!([1, u32::MAX]), "process.user.additionalGids"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/oomScoreAdj", json!(-1001), "process.oomScoreAdj"),
        ("/process/rlimits", rlimit("RLIMIT_CORE", 2, 1), "process.rlimits"),
        ("/process/rlimits", rlimit("RLIMIT_NONSENSE", 1, 1), "process.rlimits[0]"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
            "process.rlimits",
        ),
        ("/process/apparmorProfile", json!("docker-default"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("system_u:system_r:container_t:s0"), "process.selinuxLabel"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority"),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 50}), "process.scheduler.nice"),
        ("/process/scheduler", json!({"policy": "SCHED_NONSENSE"}), "process.scheduler.policy"),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
            "process.ioPriority.priority",
        ),
        ("/process/ioPriority", json!({"class": "BEST", "priority": 1}), "process.ioPriority.class"),
    ]);
}

fn wrong_mounts_are_refused_by_name() {
    let tmpfs =
        |options: Value| json!({"destination": "/x", "type": "tmpfs", "source": "x", "options": options});
    let bind = |source: &str, options: Value| json!({"destination": "/x", "type": "bind", "source": source, "options": options});
    check(&[
        ("/mounts/-", json!({"destination": "", "type": "tmpfs"}), "mounts[7].destination"),
        ("/mounts/-", json!({"destination": "/", "type": "tmpfs"}), "mounts[7].destination"),
        ("/mounts/-", json!({"destination": "/a/../../b", "type": "tmpfs"}), "mounts[7].destination"),
        ("/mounts/-", json!({"destination": "/x"}), "mounts[7].type"),
        ("/mounts/-", json!({"destination": "/x", "type": "nonsense"}), "nonsense"),
        ("/mounts/-", json!({"destination": "/x", "type": "bind"}), "mounts[7].source"),
        ("/mounts/-", json!({"destination": "/x\0y", "type": "tmpfs"}), "/x"),
        ("/mounts/-", bind("/no/such/source", json!(["bind"])), "/no/such/source"),
        ("/mounts/-", bind("/etc/hostname/x", json!(["bind"])), "/etc/hostname/x"),
        ("/mounts/-", bind("/etc", json!(["bind", "size=5"])), "mounts[7].options"),
        ("/mounts/-", tmpfs(json!(["a\0b"])), "mounts[7].options"),
        ("/mounts/-", tmpfs(json!(["size=lots"])), "/x"),
        ("/mounts/-", tmpfs(json!(["no-such-option"])), "/x"),
        ("/mounts/-", tmpfs(json!(["mode=9999"])), "/x"),
        ("/mounts/-", json!({"destination": "/proc/self", "type": "tmpfs"}), "/proc/self"),
        ("/mounts/-", json!({"destination": "/proc/1/root", "type": "tmpfs"}), "/proc/1/root"),
        ("/mounts/-", json!({"destination": "/proc/sys/kernel", "type": "tmpfs"}), "/proc/sys/kernel"),
        ("/mounts/-", json!({"destination": "/bin/busybox/x", "type": "tmpfs"}), "/bin/busybox"),
        ("/mounts/-", json!({"destination": "/bin/busybox", "type": "tmpfs"}), "/bin/busybox"),
        ("/mounts/0", json!({"destination": "/proc", "type": "bind", "source": "no-such"}), "no-such"),
        ("/root/path", json!(""), "root.path"),
        ("/root/path", json!("no-such-rootfs"), "rootfs"),
        ("/root/path", json!("config.json"), "config.json"),
        ("/root/path", json!("/no/such/rootfs"), "rootfs"),
        ("/root", Value::Null, "root is missing"),
        ("/linux/rootfsPropagation", json!("nonsense"), "linux.rootfsPropagation"),
        ("/linux/maskedPaths", json!(["proc/kcore"]), "linux.maskedPaths"),
        ("/linux/maskedPaths", json!(["/a\0b"]), "linux.maskedPaths"),
        ("/linux/readonlyPaths", json!(["proc"]), "linux.readonlyPaths"),
        ("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0"), "linux.mountLabel"),
    ]);
}

fn wrong_namespaces_are_refused_by_name() {
    let namespaces = |list: Value| json!(list);
    let user = json!([{"type": "mount"}, {"type": "user"}]);
    check(&[
        ("/linux", Value::Null, "linux is missing"),
        ("/linux/namespaces", json!([]), "linux.namespaces"),
        ("/linux/namespaces", json!([{"type": "pid"}]), "linux.namespaces"),
        ("/linux/namespaces/-", json!({"type": "mount"}), "linux.namespaces"),
        ("/linux/namespaces/-", json!({"type": "nonsense"}), "linux.namespaces"),
        ("/linux/namespaces/-", json!({"type": 3}), "linux.namespaces"),
        (
            "/linux/namespaces",
            namespaces(json!([{"type": "mount"}, {"type": "network", "path": "run/x"}])),
            "linux.namespaces",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "network", "path": "/no/such"}]),
            "/no/such",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "network", "path": "/etc/hostname"}]),
            "/etc/hostname",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/uts"}]),
            "/proc/self/ns/uts",
        ),
        ("/linux/namespaces", user.clone(), "linux.uidMappings"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}]), "linux.gidMappings"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1}]), "linux.uidMappings"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 0}]), "linux.uidMappings"),
        (
            "/linux/gidMappings",
            json!([{"containerID": 1, "hostID": 4_294_967_295_u64, "size": 5}]),
            "linux.gidMappings",
        ),
        ("/linux/sysctl", json!({"kernel.core_pattern": "|/bin/sh"}), "linux.sysctl.kernel.core_pattern"),
        ("/linux/sysctl", json!({"kernel/../../etc": "x"}), "linux.sysctl"),
        ("/linux/sysctl", json!({"net.": "x"}), "linux.sysctl"),
        ("/linux/sysctl", json!({"net.no.such.thing": "1"}), "net"),
        ("/linux/sysctl", json!({"kernel.msgmax": "not a number"}), "msgmax"),
        ("/linux/sysctl", json!({"vm.overcommit_memory": "1"}), "linux.sysctl.vm.overcommit_memory"),
        ("/hostname", json!("x".repeat(65)), "hostname"),
        ("/hostname", json!("a\0b"), "hostname"),
        ("/domainname", json!("x".repeat(65)), "domainname"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]),
            "linux.devices[0]",
        ),
        (
            "/linux/devices",
            json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[0]",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/../etc/x", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[0]",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 3}]),
            "linux.devices[0]",
        ),
        (
            "/linux/devices",
            json!([{"path": "/bin/busybox", "type": "c", "major": 1, "minor": 3}]),
            "/bin/busybox",
        ),
    ]);
}

fn wrong_resources_are_refused_by_name() {
    check(&[
        ("/linux/resources/memory", json!({"limit": "1g"}), "linux.resources.memory.limit"),
        ("/linux/resources/cpu", json!({"quota": "x"}), "linux.resources.cpu.quota"),
        ("/linux/resources/cpu", json!({"cpus": "no-cpu"}), "cpu"),
        ("/linux/resources/cpu", json!({"cpus": "100000"}), "cpu"),
        ("/linux/resources/cpu", json!({"mems": "9999"}), "mems"),
        ("/linux/resources/pids", json!({"limit": "many"}), "linux.resources.pids.limit"),
        ("/linux/resources/devices/-", json!({"allow": "yes"}), "linux.resources.devices"),
        ("/linux/resources/devices/-", json!({"allow": true, "access": "xyz"}), "devices"),
        ("/linux/resources/blockIO", json!({"weight": 5}), "blockIO"),
        ("/linux/resources/unified", json!({"memory.no-such-file": "1"}), "unified"),
        ("/linux/resources/unified", json!({"../cgroup.procs": "1"}), "unified"),
        ("/linux/resources/hugepageLimits", json!([{"pageSize": "3KB", "limit": 1}]), "hugepageLimits"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
    ]);
}

fn wrong_filters_are_refused_by_name() {
    let filter = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    check(&[
        ("/linux/seccomp", json!({}), "linux.seccomp"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NONSENSE"}), "linux.seccomp"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}),
            "linux.seccomp",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NONSENSE"]}),
            "linux.seccomp",
        ),
        ("/linux/seccomp", filter(json!({"names": [], "action": "SCMP_ACT_ERRNO"})), "linux.seccomp"),
        ("/linux/seccomp", filter(json!({"names": "read", "action": "SCMP_ACT_ERRNO"})), "linux.seccomp"),
        ("/linux/seccomp", filter(json!({"names": ["read"], "action": "DENY"})), "linux.seccomp"),
        (
            "/linux/seccomp",
            filter(
                json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}),
            ),
            "linux.seccomp",
        ),
        (
            "/linux/seccomp",
            filter(
                json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "EQ"}]}),
            ),
            "linux.seccomp",
        ),
        (
            "/linux/seccomp",
            filter(
                json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}),
            ),
            "linux.seccomp",
        ),
        (
            "/linux/seccomp",
            filter(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000})),
            "linux.seccomp",
        ),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp"),
    ]);
}

fn wrong_hooks_and_the_rest_are_refused_by_name() {
    let hook = |hook: Value| json!([hook]);
    check(&[
        ("/hooks/prestart", hook(json!({"path": "relative"})), "hooks.prestart[0].path"),
        ("/hooks/createRuntime", hook(json!({"path": ""})), "hooks.createRuntime[0].path"),
        ("/hooks/createRuntime", hook(json!({})), "hooks.createRuntime"),
        ("/hooks/createRuntime", hook(json!({"path": 3})), "hooks.createRuntime[0].path"),
        ("/hooks/createRuntime", hook(json!({"path": "/no/such/hook"})), "hooks.createRuntime[0]"),
        ("/hooks/createRuntime", hook(json!({"path": "/etc/hostname"})), "hooks.createRuntime[0]"),
        ("/hooks/createRuntime", hook(json!({"path": "/bin/false"})), "hooks.createRuntime[0]"),
        ("/hooks/createContainer", hook(json!({"path": "/bin/false"})), "hooks.createContainer[0]"),
        (
            "/hooks/createContainer",
            hook(json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1})),
            "hooks.createContainer[0]",
        ),
        ("/hooks/poststop", hook(json!({"path": "/x", "timeout": -1})), "hooks.poststop[0].timeout"),
        ("/hooks/poststart", hook(json!({"path": "/x", "env": ["=x"]})), "hooks.poststart[0].env"),
        ("/hooks/poststart", hook(json!({"path": "/x", "args": ["\0"]})), "hooks.poststart[0]"),
        ("/vm", json!({"kernel": {"path": "/x"}}), "vm"),
        ("/windows", json!({"layerFolders": ["x"]}), "windows"),
        ("/solaris", json!({}), "solaris"),
        ("/zos", json!({}), "zos"),
    ]);
}

fn files_that_are_no_configuration_are_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{{\"annotations\":{}{}}}", "{\"a\":".repeat(500), "}".repeat(500));
    let huge = format!("{{\"ociVersion\": \"{}\"}}", "x".repeat(5 << 20));
    for text in [
        "",
        " ",
        "null",
        "[]",
        "3",
        "\"x\"",
        "{",
        "{}",
        "{\"ociVersion\": \"1.0.2\"",
        "\u{feff}{}",
        "{\"ociVersion\":}",
        "{'ociVersion': '1.0.2'}",
        "\0\0\0\0",
        &deep,
        &nested,
        &huge,
    ] {
        let bundle = Bundle::new(&["true"]);
        fs::write(bundle.dir.path().join("config.json"), text).unwrap();
        let start: String = text.chars().take(40).collect();
        let Err(error) = container::Bundle::load(bundle.dir.path()) else { panic!("{start} was read") };
        let error = error.to_string();
        assert!(error.contains("config.json") && error.len() < 1500, "{start}: {error}");
    }
    let bundle = Bundle::new(&["true"]);
    fs::create_dir(bundle.dir.path().join("config.json")).unwrap();
    assert!(container::Bundle::load(bundle.dir.path()).is_err());
    fs::remove_dir(bundle.dir.path().join("config.json")).unwrap();
    assert!(container::Bundle::load(bundle.dir.path()).unwrap_err().to_string().contains("config.json"));
    symlink("config.json", bundle.dir.path().join("config.json")).unwrap();
    assert!(container::Bundle::load(bundle.dir.path()).is_err());
}

fn hostile_root_filesystems_keep_everything_inside() {
    // Wherever a link leads, what is made by way of it is made inside the root filesystem, or refused.
    let outside = tempfile::tempdir().unwrap();
    let targets = [
        outside.path().to_str().unwrap().to_owned(),
        "../../../../../../tmp".into(),
        "/proc/self/root".into(),
    ];
    for target in targets {
        for (name, pointer, value) in [
            ("etc", "/mounts/-", json!({"destination": "/etc/made", "type": "tmpfs", "source": "x"})),
            (
                "tmp",
                "/linux/devices",
                json!([{"path": "/tmp/hostile-node", "type": "c", "major": 1, "minor": 3}]),
            ),
            ("tmp", "/process/cwd", json!("/tmp/hostile-made/deep")),
            ("tmp", "/linux/maskedPaths", json!(["/tmp/hostile-x"])),
        ] {
            let bundle = Bundle::new(&["true"]).with(|config| put(config, pointer, value.clone()));
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(&target, bundle.rootfs().join(name)).unwrap();
            if let Ok(mut container) = bundle.create(&tempfile::tempfile().unwrap()) {
                container.delete().unwrap();
            }
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{target}: {pointer}");
            for made in ["/tmp/hostile-made", "/tmp/hostile-node", "/tmp/hostile-x"] {
                assert!(!fs::exists(made).unwrap(), "{target}: {pointer}: {made}");
            }
        }
    }
}
