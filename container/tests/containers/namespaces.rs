//! Namespaces that are joined by path, shared with the host, or have clocks of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Bundle, Case, map_ids, push};

pub(crate) const CASES: &[Case] = &[
    ("every_kind_of_namespace_can_be_joined", every_kind_of_namespace_can_be_joined),
    (
        "a_user_namespace_can_be_joined_and_owns_the_new_ones",
        a_user_namespace_can_be_joined_and_owns_the_new_ones,
    ),
    ("mounts_map_ids_as_a_joined_user_namespace_does", mounts_map_ids_as_a_joined_user_namespace_does),
    (
        "what_the_host_owns_is_joined_before_a_user_namespace",
        what_the_host_owns_is_joined_before_a_user_namespace,
    ),
    ("a_namespace_of_another_kind_is_refused", a_namespace_of_another_kind_is_refused),
    ("clocks_are_moved_in_a_time_namespace", clocks_are_moved_in_a_time_namespace),
    ("without_a_pid_namespace_delete_kills_all_the_same", without_a_pid_namespace_delete_kills_all_the_same),
];

/// A process in namespaces of its own, which end with it.
struct Holder(Child);

impl Holder {
    /// Made by unshare(1) with these options.
    fn new(options: &[&str]) -> Self {
        let sleep = ["--", "/bin/busybox", "sleep", "60"];
        Self(Command::new("unshare").args(options).args(sleep).spawn().unwrap())
    }

    /// In a user namespace whose ids are those from 100000 on of the host.
    fn of_mapped_user() -> Self {
        let holder = Self::new(&["--user"]);
        let _there = holder.namespace("user");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", holder.0.id()), "0 100000 65536").unwrap();
        }
        holder
    }

    /// The path of a namespace, once it is there.
    fn namespace(&self, name: &str) -> PathBuf {
        let path = PathBuf::from(format!("/proc/{}/ns/{name}", self.0.id()));
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        for _ in 0..2000 {
            if fs::read_link(&path).is_ok_and(|link| link != own) {
                return path;
            }
            sleep(Duration::from_millis(1));
        }
        panic!("{} did not appear", path.display());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Makes the configuration's namespace of this kind that at `path`.
fn join(config: &mut Value, kind: &str, path: &std::path::Path) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.push(json!({"type": kind, "path": path}));
}

fn every_kind_of_namespace_can_be_joined() {
    let options =
        ["--mount", "--uts", "--ipc", "--net", "--pid", "--time", "--cgroup", "--fork", "--kill-child"];
    let holder = Holder::new(&options);
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    for (kind, name, link) in [
        ("mount", "mnt", "mnt"),
        ("uts", "uts", "uts"),
        ("ipc", "ipc", "ipc"),
        ("network", "net", "net"),
        ("cgroup", "cgroup", "cgroup"),
        ("pid", "pid", "pid_for_children"),
        ("time", "time", "time_for_children"),
    ] {
        let path = holder.namespace(link);
        let wanted = fs::read_link(&path).unwrap();
        let bundle = Bundle::script(&format!("busybox readlink /proc/self/ns/{name}; echo $$"))
            .with(|config| join(config, kind, &path));
        let output = bundle.output();
        let (joined, pid) = output.trim().split_once('\n').unwrap();
        assert_eq!(joined, wanted.to_str().unwrap(), "{kind}");
        assert_eq!(pid == "1", kind != "pid", "{kind}: {output}");
    }
    assert_eq!(fs::read_link("/proc/self/ns/pid_for_children").unwrap(), own, "the creator's stays its own");
}

fn a_user_namespace_can_be_joined_and_owns_the_new_ones() {
    let holder = Holder::of_mapped_user();
    let path = holder.namespace("user");
    // Mounting /proc and setting the host name take rights over the new namespaces.
    let bundle = Bundle::script("id -u; hostname; echo x > /tmp/made; cat /proc/self/uid_map; echo $$").with(
        |config| {
            join(config, "user", &path);
            config["hostname"] = json!("joined");
        },
    );
    bundle.give_to(100_000);
    let output = bundle.output();
    assert!(
        output.starts_with("0\njoined\n") && output.contains("100000") && output.ends_with("\n1\n"),
        "{output}"
    );
    assert_eq!(fs::metadata(bundle.rootfs().join("tmp/made")).unwrap().uid(), 100_000);
}

fn mounts_map_ids_as_a_joined_user_namespace_does() {
    let holder = Holder::of_mapped_user();
    let path = holder.namespace("user");
    let volume = tempfile::tempdir().unwrap();
    assert!(
        Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(volume.path()).status().unwrap().success()
    );
    let bundle = Bundle::script("stat -c %u /volume; echo x > /volume/made").with(|config| {
        join(config, "user", &path);
        let options = ["bind", "idmap"];
        let mount =
            json!({"destination": "/volume", "type": "bind", "source": volume.path(), "options": options});
        crate::harness::push(&mut config["mounts"], mount);
    });
    bundle.give_to(100_000);
    let ended = bundle.run();
    let made = fs::metadata(volume.path().join("made")).map(|made| made.uid());
    assert!(Command::new("umount").arg(volume.path()).status().unwrap().success());
    assert_eq!(ended.output, "0\n");
    assert_eq!(made.unwrap(), 0);
}

fn what_the_host_owns_is_joined_before_a_user_namespace() {
    let holder = Holder::of_mapped_user();
    let user = holder.namespace("user");
    let own = PathBuf::from("/proc/self/ns/net");
    let wanted = fs::read_link(&own).unwrap();
    for joins_user in [true, false] {
        let bundle = Bundle::script("busybox readlink /proc/self/ns/net; id -u").with(|config| {
            join(config, "network", &own);
            // sysfs shows a network, and so takes rights over it.
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
            if joins_user {
                join(config, "user", &user);
            } else {
                map_ids(config, 100_000);
            }
        });
        bundle.give_to(100_000);
        assert_eq!(bundle.output(), format!("{}\n0\n", wanted.display()));
    }
}

fn a_namespace_of_another_kind_is_refused() {
    for (kind, path, reason) in [
        ("network", "/proc/self/ns/uts", "is a namespace of another kind"),
        ("time", "/proc/self/ns/mnt", "is a namespace of another kind"),
        ("user", "/dev/null", "is no namespace"),
    ] {
        let error = Bundle::new(&["true"]).with(|config| join(config, kind, path.as_ref())).create_error();
        assert!(error.contains("linux.namespaces[") && error.contains(reason), "{kind}: {error}");
    }
    let fifo = tempfile::tempdir().unwrap();
    let path = fifo.path().join("fifo");
    assert!(Command::new("/bin/busybox").arg("mkfifo").arg(&path).status().unwrap().success());
    let error = Bundle::new(&["true"]).with(|config| join(config, "ipc", &path)).create_error();
    assert!(error.contains("is no namespace"), "{error}");
}

fn clocks_are_moved_in_a_time_namespace() {
    for with_user in [false, true] {
        let bundle = Bundle::script("cat /proc/uptime; id -u").with(|config| {
            push(&mut config["linux"]["namespaces"], json!({"type": "time"}));
            config["linux"]["timeOffsets"] =
                json!({"boottime": {"secs": 500_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}});
            if with_user {
                map_ids(config, 100_000);
            }
        });
        bundle.give_to(if with_user { 100_000 } else { 0 });
        let output = bundle.output();
        let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
        let host: f64 =
            fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((uptime - host - 500_000_000.0).abs() < 30.0, "{uptime} {host}");
    }
}

fn without_a_pid_namespace_delete_kills_all_the_same() {
    let bundle = Bundle::script("sleep 60 & echo $!; echo $$").with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let output = tempfile::tempfile().unwrap();
    let mut container = bundle.create(&output).unwrap();
    container.start().unwrap();
    container.wait().unwrap();
    let text = crate::harness::read_all(&mut output.try_clone().unwrap());
    let (left, init) = text.trim().split_once('\n').unwrap();
    assert_eq!(init, container.pid().to_string());
    let lives = || {
        let status = fs::read_to_string(format!("/proc/{left}/status")).unwrap_or_default();
        status.contains("State:") && !status.contains("State:\tZ")
    };
    assert!(lives(), "what it started lives on: {text}");
    container.delete().unwrap();
    assert!(!lives(), "what it started is gone");
}
