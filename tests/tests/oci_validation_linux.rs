//! What the runtime specification 1.2 says of Linux containers (`config-linux.md`), as opencontainers/runtime-tools checks
//! it in `validation/`: see `oci_validation.rs`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Host, skip};

/// The kinds of namespaces of the default configuration, as the specification and as /proc name them.
const NAMESPACES: [(&str, &str); 6] = [
    ("mount", "mnt"),
    ("network", "net"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("cgroup", "cgroup"),
];

fn own_namespace(name: &str) -> String {
    let link = fs::read_link(format!("/proc/thread-self/ns/{name}")).expect("it is there");
    link.to_string_lossy().into_owned()
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().expect("a list")
}

/// "Namespaces": those that are listed are new, without a path; the runtime's own are kept for others.
#[test]
fn namespaces_are_new_when_listed_and_inherited_when_not() {
    let Some(host) = Host::for_containers() else { return };
    for (kind, name) in NAMESPACES {
        let script = format!("readlink /proc/self/ns/{name}");
        let new = host.oci_prints(&script, |_| ());
        assert_ne!(new.trim(), own_namespace(name), "{kind}");
        if kind == "mount" {
            continue;
        }
        let inherited = host.oci_prints(&script, |config| {
            namespaces(config).retain(|namespace| namespace["type"] != kind);
        });
        assert_eq!(inherited.trim(), own_namespace(name), "{kind}");
    }
    let without_mount = host.oci_refuses(|config| namespaces(config).retain(|n| n["type"] != "mount"));
    assert!(without_mount.contains("linux.namespaces"), "{without_mount}");
}

/// "Namespaces": those with a path are joined; a path of another kind, a missing one and a kind twice are errors.
#[test]
fn namespaces_with_a_path_are_joined() {
    let Some(host) = Host::for_containers() else { return };
    for (kind, name) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc"), ("cgroup", "cgroup")] {
        // One that neither this thread nor a new container is in: process 1's, or this thread's.
        let file = File::open(format!("/proc/thread-self/ns/{name}")).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let set = |config: &mut Value, path: &str| {
            namespaces(config).iter_mut().find(|namespace| namespace["type"] == kind).unwrap()["path"] =
                json!(path);
        };
        let joined = host.oci_prints(&format!("readlink /proc/self/ns/{name}"), |config| set(config, &path));
        assert_eq!(joined.trim(), own_namespace(name), "{kind}");
        for wrong in ["/proc/self/ns/mnt", "/nowhere", "relative"] {
            let said = host.oci_refuses(|config| set(config, wrong));
            assert!(said.contains("linux.namespaces") || said.contains(wrong), "{kind} {wrong}: {said}");
        }
    }
    let twice = host.oci_refuses(|config| namespaces(config).push(json!({"type": "uts"})));
    assert!(twice.contains("linux.namespaces"), "{twice}");
}

/// "User namespace mappings": ids of the container are those of the host that they are mapped to.
#[test]
fn ids_are_mapped_as_configured() {
    let Some(host) = Host::for_containers() else { return };
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g";
    let printed = host.oci_prints(script, |config| {
        namespaces(config).push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 2000}]);
        config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 3000, "size": 4000}]);
        // What is looked up on the way must be open to the host's users.
        let dir = host.path("");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir, mode).unwrap();
    });
    let words: Vec<_> = printed.split_whitespace().collect();
    assert_eq!(words, ["0", "1000", "2000", "0", "3000", "4000", "0", "0"]);
}

/// "Devices": type, numbers, mode and owner; one that is there is no error.
#[test]
fn devices_have_the_numbers_mode_and_owner_asked_for() {
    let Some(host) = Host::for_containers() else { return };
    let devices = json!([
        {"path": "/dev/test-char", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/test-block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
        {"path": "/dev/test-fifo", "type": "p", "fileMode": 0o644},
        {"path": "/dev/sub/null", "type": "c", "major": 1, "minor": 3},
    ]);
    let script = "stat -c '%n %F %a %u %g %t:%T' /dev/test-char /dev/test-block /dev/test-fifo; test -c /dev/sub/null && echo is";
    let printed = host.oci_prints(script, |config| config["linux"]["devices"] = devices);
    assert_eq!(
        printed,
        "/dev/test-char character special file 640 7 8 1:5\n/dev/test-block block special file 600 0 0 7:c8\n\
         /dev/test-fifo fifo 644 0 0 0:0\nis\n"
    );
}

/// "Sysctl", and "Hostname" and "Domainname" of the configuration.
#[test]
fn names_and_sysctls_are_set_in_the_containers_namespaces() {
    let Some(host) = Host::for_containers() else { return };
    let script = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward \
                  /proc/sys/kernel/shmmni";
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let printed = host.oci_prints(script, |config| {
        config["hostname"] = json!("box");
        config["domainname"] = json!("example.org");
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "99"});
    });
    assert_eq!(printed, "box\nexample.org\n1\n99\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    let of_host = host.oci_refuses(|config| config["linux"]["sysctl"] = json!({"vm.swappiness": "1"}));
    assert!(of_host.contains("linux.sysctl"), "{of_host}");
}

/// "Seccomp": calls get the answer that their rule or the default says.
#[test]
fn seccomp_answers_as_configured() {
    let Some(host) = Host::for_containers() else { return };
    let printed = host.oci_prints("mkdir /new 2>&1; busybox mkdir /tmp/new 2>&1; id -u", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
        });
    });
    assert!(printed.contains("Not supported") || printed.contains("not supported"), "{printed}");
    assert!(printed.ends_with("0\n"), "{printed}");
}

/// "Rootfs Mount Propagation": the root mount's, as mountinfo has it.
#[test]
fn the_roots_propagation_is_as_configured() {
    let Some(host) = Host::for_containers() else { return };
    for (propagation, shared, slave) in [
        ("private", false, false),
        ("shared", true, false),
        ("slave", false, false),
        ("unbindable", false, false),
    ] {
        let printed =
            host.oci_prints("grep ' / / \\|rootfs / ' /proc/self/mountinfo | head -n 1", |config| {
                config["linux"]["rootfsPropagation"] = json!(propagation);
            });
        assert_eq!(printed.contains("shared:"), shared, "{propagation}: {printed}");
        // The test's mounts are private: there is no master.
        assert_eq!(printed.contains("master:"), slave, "{propagation}: {printed}");
        assert_eq!(printed.contains("unbindable"), propagation == "unbindable", "{propagation}: {printed}");
    }
    assert!(
        host.oci_refuses(|config| config["linux"]["rootfsPropagation"] = json!("none"))
            .contains("ropagation")
    );
}

/// "Mount Label": there is no SELinux, which is said and not ignored.
#[test]
fn a_mount_label_is_refused_where_there_is_no_selinux() {
    let Some(host) = Host::for_containers() else { return };
    let label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
    let said = host.oci_refuses(|config| config["linux"]["mountLabel"] = json!(label));
    assert!(said.contains("linux.mountLabel"), "{said}");
}

/// A group's file, in whichever tree has it under one of these names.
fn group_file(group: &str, candidates: &[(&str, &str)]) -> Option<PathBuf> {
    let dir = |tree: &str| Path::new("/sys/fs/cgroup").join(tree).join(&group[1..]);
    let paths =
        candidates.iter().flat_map(|(tree, files)| files.split('|').map(move |file| dir(tree).join(file)));
    paths.into_iter().find(|path| path.is_file())
}

/// "Control groups": each limit is in its file, whether the path is absolute or relative.
#[test]
fn limits_are_in_the_groups_files() {
    let Some(host) = Host::for_containers() else { return };
    // A limit, where it is in v1 with its value, and in v2 with its.
    let cases = [
        (
            json!({"memory": {"limit": 67_108_864}}),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory.max", "67108864"),
        ),
        (
            json!({"memory": {"reservation": 33_554_432}}),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory.low", "33554432"),
        ),
        (json!({"cpu": {"shares": 512}}), ("cpu", "cpu.shares", "512"), ("cpu.weight", "20")),
        (
            json!({"cpu": {"quota": 50_000, "period": 200_000}}),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu.max", "50000 200000"),
        ),
        (json!({"cpu": {"cpus": "0", "mems": "0"}}), ("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        (json!({"pids": {"limit": 77}}), ("pids", "pids.max", "77"), ("pids.max", "77")),
        (
            json!({"blockIO": {"weight": 500}}),
            ("blkio", "blkio.bfq.weight|blkio.weight", "500"),
            ("io.bfq.weight", "default 500"),
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
            ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
            ("hugetlb.2MB.max", "4194304"),
        ),
        (json!({"network": {"classID": 1_048_577}}), ("net_cls", "net_cls.classid", "1048577"), ("", "")),
        (
            json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}}),
            ("net_prio", "net_prio.ifpriomap", "lo 5"),
            ("", ""),
        ),
    ];
    let own = host.path("").file_name().unwrap().to_string_lossy().into_owned();
    // A relative path is below a parent of the runtime's choice.
    let both = cases.iter().flat_map(|case| [(case, false), (case, true)]);
    for (number, ((resources, v1, v2), relative)) in both.enumerate() {
        let bundle = host.bundle(&format!("b{number}"), &["true"]).with(|config| {
            let path = if relative { own.clone() } else { format!("/carve-oci/{own}") };
            config["linux"]["cgroupsPath"] = json!(path);
            let devices = config["linux"]["resources"]["devices"].take();
            config["linux"]["resources"] = resources.clone();
            config["linux"]["resources"]["devices"] = devices;
        });
        let output = host.path("output");
        let mut create = host.oci_command(&["create", "--bundle", bundle.path(), "one"]);
        let file = File::create(&output).unwrap();
        let status =
            create.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).status();
        let said = fs::read_to_string(&output).unwrap();
        if !status.unwrap().success() {
            // What a host lacks is named, and no reason to fail here.
            assert!(said.contains("linux.resources."), "{resources}: {said}");
            skip(&format!("{resources}: {}", said.trim()));
            continue;
        }
        let group = format!("/carve-oci/{own}");
        let candidates = [(v1.0, v1.1), (".", v2.0), ("unified", v2.0)];
        let path = group_file(&group, &candidates).unwrap_or_else(|| panic!("{resources}"));
        let value = fs::read_to_string(&path).unwrap();
        let of_v1 = v1.1.split('|').any(|file| path.ends_with(Path::new(v1.0).join(&group[1..]).join(file)));
        let expected = if of_v1 { v1.2 } else { v2.1 };
        assert!(value.lines().any(|line| line == expected), "{}: {value}", path.display());
        let _ = host.oci_ok(&["delete", "--force", "one"]);
    }
}

/// "Allowed Device list": rules apply in their order, the later one winning.
#[test]
fn device_rules_hold_in_their_order() {
    let Some(host) = Host::for_containers() else { return };
    if !Path::new("/dev/net/tun").exists() {
        return skip("the device 10:200 is not there");
    }
    let script =
        "(exec 3</dev/tunnel) 2>/dev/null && echo readable || echo refused; head -c 1 /dev/zero | wc -c";
    let cases = [(true, "readable\n1\n"), (false, "refused\n1\n")];
    for ((last, expected), relative) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let printed = host.oci_prints(script, |config| {
            if relative {
                let path = config["linux"]["cgroupsPath"].as_str().unwrap().replace("/carve-oci/", "");
                config["linux"]["cgroupsPath"] = json!(path);
            }
            // /dev/net/tun, which no default rule allows.
            config["linux"]["devices"] =
                json!([{"path": "/dev/tunnel", "type": "c", "major": 10, "minor": 200}]);
            config["linux"]["resources"]["devices"] = json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"},
                {"allow": last, "type": "c", "major": 10, "minor": 200, "access": "r"},
            ]);
            config["linux"]["seccomp"] = Value::Null;
        });
        assert_eq!(printed, expected, "allow: {last}, relative: {relative}");
    }
}
