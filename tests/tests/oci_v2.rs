//! `carve oci` on cgroup v2 with all controllers, in a guest: few hosts that tests run on have them. What the guest does
//! is in `oci_v2.sh`.

#![expect(clippy::unwrap_used, reason = "these are tests, though clippy sees no #[test] at what they share")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::{Engine, Host, binary, initramfs_with, kernel};

const SCRIPT: &str = include_str!("oci_v2.sh");

/// Adds containers, the binary and what it is linked with to the tree of the initramfs.
fn fill(host: &Host, tree: &Path) {
    let rootfs = host.bundle("b", &["true"]);
    let copied = Command::new("cp").arg("-a").arg(rootfs.rootfs()).arg(tree).status().unwrap();
    assert!(copied.success());
    // Without what is for debuggers: the guest keeps it in memory.
    let stripped = Command::new("strip").arg("-o").arg(tree.join("carve")).arg(binary()).status().unwrap();
    assert!(stripped.success());
    let libraries = Command::new("ldd").arg(binary()).output().unwrap();
    let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = tree.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    let throttle = |rate| json!([{"major": 254, "minor": 0, "rate": rate}]);
    let all = json!({
        "memory": {"limit": 32 << 20, "swap": 32 << 20, "reservation": 8 << 20},
        "cpu": {"shares": 2048, "quota": 20000, "period": 50000, "burst": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
        "blockIO": {"throttleReadBpsDevice": throttle(1 << 20), "throttleWriteIOPSDevice": throttle(7)},
        "unified": {"memory.high": "29M"},
        "devices": [{"allow": false, "access": "rwm"}]
    });
    let fill_memory = "exec busybox dd if=/dev/zero of=/dev/shm/x bs=64k count=900";
    let fork = "for i in 1 2 3 4 5 6; do sleep 5 & done; echo unlimited";
    let storm = "f() { (f) & (f) & sleep 1000; }; f";
    let memory = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    for (name, script, resources, path) in [
        ("plain", "grep -q '^0::/$' /proc/self/cgroup && touch /tmp/x", json!({}), "/carve-oci/plain"),
        ("all", "exec sleep 1000", all, "/carve-oci/all"),
        ("oom", fill_memory, memory.clone(), "/carve-oci/oom"),
        ("forks", fork, json!({"pids": {"limit": 4}}), "/carve-oci/forks"),
        ("storm", storm, json!({"pids": {"limit": 30}}), "/carve-oci/storm"),
        ("busy", "true", memory, "/busy/x"),
        ("threads", "true", json!({}), "/threads/x"),
        ("swappiness", "true", json!({"memory": {"swappiness": 5}}), "/carve-oci/swappiness"),
    ] {
        let mut config: Value = rootfs.config.clone();
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["path"] = json!("/rootfs");
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = resources;
        if name == "storm" {
            // Nothing but the group knows whose processes these are.
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
        let dir = tree.join("bundles").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }
}

#[test]
fn containers_on_cgroup_v2_with_all_its_controllers() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let initrd = initramfs_with(&host.path(""), SCRIPT);
    let tree = host.path("initramfs");
    fill(&host, &tree);
    let pack = Command::new("sh")
        .args(["-c", "find . | cpio --quiet -o -H newc > \"$0\""])
        .arg(&initrd)
        .current_dir(&tree)
        .status();
    assert!(pack.unwrap().success());
    let disk = host.path("disk.img");
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let kernel = kernel().unwrap();
    let mut boot = host.carve(&["vm", "boot", "--kernel", kernel.to_str().unwrap(), "--memory", "512"]);
    boot.args(["--cmdline", "quiet"]).arg("--initrd").arg(&initrd).arg("--disk").arg(&disk);
    let output = boot.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let checks: Vec<_> =
        SCRIPT.lines().filter_map(|line| line.strip_prefix("check ")?.split(' ').next()).collect();
    assert!(checks.len() > 40);
    let missing: Vec<_> = checks.iter().filter(|check| !said.contains(&format!("v2: {check} ok"))).collect();
    assert!(missing.is_empty() && said.contains("v2: done"), "{missing:?} of:\n{said}\n{output:?}");
}
