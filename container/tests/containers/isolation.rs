//! What a container has of its own, and what it cannot see: files, devices, network, other descriptors.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use serde_json::json;

use crate::harness::{Bundle, Case, map_ids, push};

pub(crate) const CASES: &[Case] = &[
    ("the_root_filesystem_is_all_there_is", the_root_filesystem_is_all_there_is),
    ("a_read_only_root_cannot_be_written", a_read_only_root_cannot_be_written),
    ("dev_has_the_usual_nodes_and_links", dev_has_the_usual_nodes_and_links),
    ("masked_and_read_only_paths_hold", masked_and_read_only_paths_hold),
    ("no_descriptor_of_the_creator_leaks", no_descriptor_of_the_creator_leaks),
    ("the_network_is_its_own_with_loopback_up", the_network_is_its_own_with_loopback_up),
    ("bind_mounts_are_read_only_when_asked", bind_mounts_are_read_only_when_asked),
    ("a_user_namespace_maps_ids", a_user_namespace_maps_ids),
    ("a_network_can_be_joined", a_network_can_be_joined),
];

fn the_root_filesystem_is_all_there_is() {
    let output =
        Bundle::script("ls /; busybox awk '{print $2}' /proc/mounts; busybox df -a | busybox grep -c vda")
            .run();
    let mounts: Vec<&str> = output.output.lines().filter(|line| line.starts_with('/')).collect();
    assert!(mounts.contains(&"/proc") && mounts.contains(&"/dev/shm"), "{mounts:?}");
    for line in mounts {
        let own = ["/proc", "/dev", "/sys"].iter().any(|dir| line.starts_with(dir)) || line == "/";
        assert!(own, "{line} is not the container's");
    }
    assert!(output.output.starts_with("bin\ndev\netc\nproc\nsys\ntmp\n"), "{}", output.output);
}

fn a_read_only_root_cannot_be_written() {
    let bundle = Bundle::script("echo x > /file; echo y > /dev/shm/file && cat /dev/shm/file")
        .with(|config| config["root"]["readonly"] = json!(true));
    let output = bundle.output();
    assert!(output.contains("Read-only file system") && output.ends_with("y\n"), "{output}");
    assert!(!bundle.rootfs().join("file").exists());
}

fn dev_has_the_usual_nodes_and_links() {
    let script = "cd /dev; for f in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $f; done; \
        for f in fd stdin stdout stderr ptmx; do busybox readlink $f; done; echo x > null; dd if=zero bs=4 count=1 2> null | busybox wc -c";
    let output = Bundle::script(script).output();
    for expected in
        ["null character special file 1:3 666", "tty character special file 5:0 666", "pts/ptmx", "\n4\n"]
    {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

fn masked_and_read_only_paths_hold() {
    let bundle = Bundle::script(
        "cat /proc/interrupts | busybox wc -c; cat /etc/secret; ls /etc/hidden; echo 1 > /proc/sys/kernel/shmmni; \
         echo x > /etc/hidden/new; echo x > /etc/kept/new; cat /etc/kept/file",
    )
    .with(|config| {
        push(&mut config["linux"]["maskedPaths"], json!("/etc/secret"));
        push(&mut config["linux"]["maskedPaths"], json!("/etc/hidden"));
        push(&mut config["linux"]["maskedPaths"], json!("/etc/not-there"));
        push(&mut config["linux"]["readonlyPaths"], json!("/etc/kept"));
    });
    let etc = bundle.rootfs().join("etc");
    fs::write(etc.join("secret"), "the secret").unwrap();
    for dir in ["hidden", "kept"] {
        fs::create_dir(etc.join(dir)).unwrap();
        fs::write(etc.join(dir).join("file"), "kept").unwrap();
    }
    let output = bundle.output();
    assert!(output.starts_with("0\n") && !output.contains("secret"), "{output}");
    assert!(output.ends_with("kept") && !output.contains("file\n"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
}

fn no_descriptor_of_the_creator_leaks() {
    let dir = File::open("/").unwrap();
    // Even one that is not close-on-exec.
    let leaky = rustix::io::fcntl_dupfd_cloexec(&dir, 50).unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let output = Bundle::script("ls /proc/self/fd | busybox tr '\\n' ' '").output();
    // 3 is the directory that ls itself reads.
    assert_eq!(output, "0 1 2 3 ");
    let bundle = Bundle::new(&["true"])
        .with(|config| config["process"]["cwd"] = json!(format!("/proc/self/fd/{}", leaky.as_raw_fd())));
    let error = bundle.create_error();
    assert!(error.contains("working directory"), "{error}");
}

fn the_network_is_its_own_with_loopback_up() {
    let output =
        Bundle::script("busybox ip -o link; busybox ping -c 1 -W 1 127.0.0.1 > /dev/null && echo up").run();
    let output = output.output;
    assert_eq!(output.matches(": lo:").count(), 1, "{output}");
    assert!(output.contains("LOOPBACK,UP"), "{output}");
}

fn bind_mounts_are_read_only_when_asked() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), "from outside").unwrap();
    let bundle = Bundle::script("cat /data/file; echo x > /data/new; cat /etc/one; echo y > /rw/new").with(|config| {
        let source = data.path().to_str().unwrap();
        let file = format!("{source}/file");
        let mounts = &mut config["mounts"];
        push(mounts, json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rro"]}));
        push(mounts, json!({"destination": "/etc/one", "type": "bind", "source": file, "options": ["bind", "ro"]}));
        push(mounts, json!({"destination": "/rw", "type": "bind", "source": source, "options": ["bind"]}));
    });
    let output = bundle.output();
    assert_eq!(output.matches("from outside").count(), 2, "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    assert_eq!(fs::read_to_string(data.path().join("new")).unwrap(), "y\n");
}

fn a_user_namespace_maps_ids() {
    let bundle =
        Bundle::script("id -u; cat /proc/self/uid_map; echo x > /dev/null && echo fine; echo y > /tmp/made")
            .with(|config| map_ids(config, 100_000));
    // The mapped root must get to its files.
    bundle.give_to(100_000);
    let output = bundle.output();
    assert!(output.starts_with("0\n") && output.contains("100000") && output.contains("fine"), "{output}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(bundle.rootfs().join("tmp/made")).unwrap().uid(), 100_000);
}

fn a_network_can_be_joined() {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let bundle = Bundle::script("busybox readlink /proc/self/ns/net").with(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(format!("/proc/{}/ns/net", std::process::id()));
            }
        }
    });
    assert_eq!(bundle.output().trim(), own.to_str().unwrap());
}
