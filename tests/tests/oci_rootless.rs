//! `carve oci` for a user other than root.

#![expect(clippy::unwrap_used, reason = "these are tests, though clippy sees no #[test] at what they share")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::{Host, binary, skip};

/// A user with no rights at all.
const USER: u32 = 65_534;

/// Who has ids granted in the test's own /etc/subuid.
const GRANTED: u32 = 5_433;

/// A place that this user may use: bundle, state directory and binary.
struct Home {
    dir: PathBuf,
    user: u32,
    host: Host,
}

impl Home {
    fn new(user: u32) -> Option<Self> {
        let host = Host::for_containers()?;
        if Command::new("setpriv").arg("--version").output().is_err() {
            skip("setpriv is not installed (util-linux)");
            return None;
        }
        let bundle =
            host.bundle("home", &["sh", "-c", "id -u; id -g; cat /proc/self/uid_map; echo fine > /tmp/x"]);
        // Temporary directories are their maker's alone, and the binary may be below one.
        fs::set_permissions(host.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(binary(), host.path("carve")).unwrap();
        fs::remove_file(bundle.dir.join("config.json")).unwrap();
        own(&bundle.dir, user);
        let home = Self { dir: bundle.dir.clone(), user, host };
        let made = home.carve(&["spec", "--rootless", "--bundle", home.dir.to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        home.change(|config| {
            config["process"]["args"] = bundle.config["process"]["args"].clone();
            config["process"]["env"] = json!(["PATH=/bin"]);
        });
        Some(home)
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(&path, config.to_string()).unwrap();
    }

    fn carve(&self, args: &[&str]) -> Output {
        let id = self.user.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(self.host.path("carve"))
            .arg("oci");
        command.arg("--root").arg(self.dir.join("state")).args(args).output().expect("setpriv runs")
    }

    fn run(&self) -> Output {
        self.carve(&["run", "--bundle", self.dir.to_str().unwrap(), "one"])
    }
}

fn own(path: &Path, user: u32) {
    if path.symlink_metadata().unwrap().is_symlink() {
        return;
    }
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| own(&entry.unwrap().path(), user));
    }
}

fn words(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_user_without_rights_runs_a_container_and_is_told_once_that_it_has_no_cgroup() {
    let Some(home) = Home::new(USER) else { return };
    let output = home.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(words(&output.stdout), ["0", "0", "0", "65534", "1"], "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.matches("without a cgroup").count(), 1, "{stderr}");
    assert_eq!(fs::read_to_string(home.dir.join("rootfs/tmp/x")).unwrap(), "fine\n");
    assert!(fs::read_dir(home.dir.join("state")).unwrap().next().is_none(), "something is left");
}

#[test]
fn limits_without_delegation_are_refused_with_what_to_delegate() {
    let Some(home) = Home::new(USER) else { return };
    home.change(|config| config["linux"]["resources"] = json!({"pids": {"limit": 5}}));
    let output = home.run();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("pids.limit") && stderr.contains("delegated"), "{stderr}");
}

#[test]
fn more_ids_than_the_own_one_are_mapped_by_newuidmap_as_granted() {
    let Some(home) = Home::new(GRANTED) else { return };
    if Command::new("newuidmap").output().is_err() {
        skip("newuidmap is not installed (package uidmap)");
        return;
    }
    let map = json!([{"containerID": 0, "hostID": GRANTED, "size": 1}, {"containerID": 1, "hostID": 700_000, "size": 99}]);
    home.change(|config| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    // The user and the grants exist in this test's mount namespace alone.
    let passwd =
        fs::read_to_string("/etc/passwd").unwrap() + &format!("granted:x:{GRANTED}:{GRANTED}::/:/bin/sh\n");
    for (name, text) in [("passwd", passwd.as_str()), ("subuid", ""), ("subgid", "")] {
        let file = home.host.path(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let bound =
            Command::new("mount").arg("--bind").arg(&file).arg(format!("/etc/{name}")).status().unwrap();
        assert!(bound.success());
    }
    let refused = home.run();
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains("newuidmap refuses") && stderr.contains("/etc/subuid"), "{stderr}");
    for name in ["subuid", "subgid"] {
        fs::write(home.host.path(name), "granted:700000:99\n").unwrap();
    }
    let output = home.run();
    let unbound =
        Command::new("umount").args(["/etc/passwd", "/etc/subuid", "/etc/subgid"]).status().unwrap();
    assert!(unbound.success());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(words(&output.stdout)[2..], ["0", "5433", "1", "1", "700000", "99"], "{output:?}");
}

#[test]
fn its_user_executes_further_programs_in_it() {
    let Some(home) = Home::new(USER) else { return };
    home.change(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    let bundle = home.dir.to_str().unwrap();
    let script = "carve oci --root state run --detach --bundle . one > log 2>&1 < /dev/null";
    let id = home.user.to_string();
    let carve = home.host.path("");
    let started = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", script])
        .env("PATH", format!("{}:/usr/bin:/bin", carve.display()))
        .current_dir(bundle)
        .status()
        .unwrap();
    assert!(started.success(), "{}", fs::read_to_string(home.dir.join("log")).unwrap_or_default());
    let script = "id -u; for kind in user pid mnt; do readlink /proc/self/ns/$kind; done; exit 3";
    let output = home.carve(&["exec", "--pid-file", &format!("{bundle}/pid"), "one", "sh", "-c", script]);
    let of_first = home.carve(&["exec", "one", "sh", "-c", &script.replace("self", "1")]);
    let deleted = home.carve(&["delete", "--force", "one"]);
    assert!(deleted.status.success(), "{deleted:?}");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(words(&output.stdout)[0], "0");
    assert_eq!(words(&output.stdout), words(&of_first.stdout));
    assert!(home.dir.join("pid").exists());
}
