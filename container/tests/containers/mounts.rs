//! Mounts as configured: ids, flags and propagation of binds, new filesystems, hostile destinations.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Bundle, Case, map_ids, push, read_all};

pub(crate) const CASES: &[Case] = &[
    ("ids_of_a_bind_mount_are_mapped", ids_of_a_bind_mount_are_mapped),
    ("ids_are_mapped_as_the_containers_are", ids_are_mapped_as_the_containers_are),
    ("mapping_ids_reaches_nested_mounts_when_asked", mapping_ids_reaches_nested_mounts_when_asked),
    ("a_filesystem_that_cannot_map_ids_is_named", a_filesystem_that_cannot_map_ids_is_named),
    ("recursive_read_only_reaches_nested_mounts", recursive_read_only_reaches_nested_mounts),
    ("a_tmpfs_gets_what_the_image_has", a_tmpfs_gets_what_the_image_has),
    ("a_tmpfs_has_the_mode_of_its_place", a_tmpfs_has_the_mode_of_its_place),
    ("propagation_of_a_mount_is_as_asked", propagation_of_a_mount_is_as_asked),
    ("mounts_pass_through_a_shared_volume", mounts_pass_through_a_shared_volume),
    ("propagation_of_the_root_is_as_asked", propagation_of_the_root_is_as_asked),
    ("a_remount_changes_what_is_mounted", a_remount_changes_what_is_mounted),
    ("files_sockets_and_devices_can_be_bound", files_sockets_and_devices_can_be_bound),
    ("links_are_not_followed_where_that_is_asked", links_are_not_followed_where_that_is_asked),
    ("only_the_second_cgroup_version_can_be_mounted", only_the_second_cgroup_version_can_be_mounted),
];

/// A tmpfs of the test's own, gone when this is dropped.
struct Volume(TempDir);

impl Volume {
    /// One with a second tmpfs mounted at `inner`, all of it with this propagation.
    fn new(propagation: &str) -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        for path in [volume.path(), volume.path().join("inner")] {
            fs::create_dir_all(&path).unwrap();
            mount(&["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]);
            mount(&[&format!("--make-{propagation}"), path.to_str().unwrap()]);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            fs::write(path.join("file"), "data").unwrap();
        }
        volume
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// A mount of it at /volume.
    fn bind(&self, options: &[&str]) -> Value {
        json!({"destination": "/volume", "type": "bind", "source": self.path(), "options": options})
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-R").arg(self.0.path()).status().unwrap();
        assert!(status.success());
    }
}

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().unwrap().success(), "mount {args:?}");
}

/// A script in a container that has this mount.
fn with_mount(script: &str, mount: Value) -> Bundle {
    Bundle::script(script).with(|config| push(&mut config["mounts"], mount))
}

/// What it takes to mount inside.
fn may_mount(config: &mut Value) {
    let names = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
    config["process"]["capabilities"] = json!({"bounding": names, "permitted": names, "effective": names});
    config["linux"].as_object_mut().unwrap().remove("seccomp");
}

fn user_namespace(bundle: Bundle) -> Bundle {
    let bundle = bundle.with(|config| map_ids(config, 100_000));
    bundle.give_to(100_000);
    bundle
}

fn mapped(mut mount: Value) -> Value {
    mount["uidMappings"] = json!([{"containerID": 0, "hostID": 5000, "size": 100}]);
    mount["gidMappings"] = json!([{"containerID": 0, "hostID": 6000, "size": 100}]);
    mount
}

fn ids_of_a_bind_mount_are_mapped() {
    let volume = Volume::new("private");
    chown(volume.path().join("file"), Some(7), Some(8)).unwrap();
    let script = "stat -c %u:%g /volume /volume/file; echo x > /volume/made";
    let bundle = with_mount(script, mapped(volume.bind(&["bind"]))).with(|config| {
        config["process"]["user"] = json!({"uid": 5003, "gid": 6004});
    });
    fs::set_permissions(bundle.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(bundle.output(), "5000:6000\n5007:6008\n");
    let made = fs::metadata(volume.path().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (3, 4));
}

fn ids_are_mapped_as_the_containers_are() {
    let volume = Volume::new("private");
    let script = "stat -c %u:%g /volume/file; echo x > /volume/made";
    let bundle = user_namespace(with_mount(script, volume.bind(&["bind", "idmap"])));
    assert_eq!(bundle.output(), "0:0\n");
    assert_eq!(fs::metadata(volume.path().join("made")).unwrap().uid(), 0);
    let unmapped = user_namespace(with_mount("stat -c %u:%g /volume/file", volume.bind(&["rbind"])));
    assert_eq!(unmapped.output(), "65534:65534\n");
    // What a user namespace may not uncover cannot be left out.
    let error = user_namespace(with_mount("true", volume.bind(&["bind"]))).create_error();
    assert!(error.contains("use the option rbind"), "{error}");
}

fn mapping_ids_reaches_nested_mounts_when_asked() {
    let volume = Volume::new("private");
    for (option, inner) in [("idmap", "0"), ("ridmap", "5000")] {
        let mount = mapped(volume.bind(&["rbind", option]));
        let output = with_mount("stat -c %u /volume/file /volume/inner/file", mount).output();
        assert_eq!(output, format!("5000\n{inner}\n"), "{option}");
    }
}

fn a_filesystem_that_cannot_map_ids_is_named() {
    let mount = json!({"destination": "/volume", "type": "bind", "source": "/proc/sys"});
    let bundle = with_mount("true", mapped(mount));
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let error = bundle.create_error();
    let expected = format!("mounts[{index}].uidMappings: /proc/sys: its filesystem cannot map ids");
    assert!(error.contains(&expected), "{error}");
}

fn recursive_read_only_reaches_nested_mounts() {
    let volume = Volume::new("private");
    let script = "echo x > /volume/new; echo x > /volume/inner/new && echo written";
    for (options, written) in [(["rbind", "ro"], true), (["rbind", "rro"], false)] {
        let output = with_mount(script, volume.bind(&options)).run().output;
        assert_eq!(output.contains("written"), written, "{options:?}: {output}");
        assert_eq!(output.matches("Read-only").count(), if written { 1 } else { 2 }, "{options:?}: {output}");
    }
}

fn a_tmpfs_gets_what_the_image_has() {
    let script = "cat /etc/kept/file; stat -c '%a %u:%g' /etc/kept/file /etc; busybox readlink /etc/link; \
                  echo changed > /etc/kept/file; echo $?";
    for (option, status) in [("rw", "0"), ("ro", "1")] {
        let options = ["tmpcopyup", "nosuid", option];
        let mount = json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options});
        let bundle = with_mount(script, mount);
        let etc = bundle.rootfs().join("etc");
        fs::create_dir(etc.join("kept")).unwrap();
        fs::write(etc.join("kept/file"), "image\n").unwrap();
        fs::set_permissions(etc.join("kept/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&etc, fs::Permissions::from_mode(0o751)).unwrap();
        chown(etc.join("kept/file"), Some(3), Some(4)).unwrap();
        symlink("../../../../../../etc/passwd", etc.join("link")).unwrap();
        let output = bundle.output();
        assert!(output.starts_with("image\n640 3:4\n751 0:0\n../../../../../../etc/passwd\n"), "{output}");
        assert!(output.ends_with(&format!("{status}\n")), "{output}");
        assert_eq!(fs::read_to_string(etc.join("kept/file")).unwrap(), "image\n");
    }
}

fn a_tmpfs_has_the_mode_of_its_place() {
    let bundle = with_mount("stat -c %a /tmp", json!({"destination": "/tmp", "type": "tmpfs"}));
    fs::set_permissions(bundle.rootfs().join("tmp"), fs::Permissions::from_mode(0o1733)).unwrap();
    assert_eq!(bundle.output(), "1733\n");
}

/// What /proc/self/mountinfo says of a mount's propagation: the fields between its options and the dash.
fn propagation(mountinfo: &str, destination: &str) -> String {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some(destination)).unwrap();
    let fields: Vec<&str> = line.split(' ').skip(6).take_while(|field| *field != "-").collect();
    let words: Vec<&str> = fields.iter().map(|field| field.split(':').next().unwrap()).collect();
    words.join(" ")
}

fn propagation_of_a_mount_is_as_asked() {
    let volume = Volume::new("shared");
    for (option, outer, inner) in [
        ("private", "", "shared"),
        ("rprivate", "", ""),
        ("slave", "master", "shared"),
        ("rslave", "master", "master"),
        ("shared", "shared", "shared"),
        ("rshared", "shared", "shared"),
        ("unbindable", "unbindable", "shared"),
        ("runbindable", "unbindable", "unbindable"),
        ("rw", "", ""),
    ] {
        let output = with_mount("cat /proc/self/mountinfo", volume.bind(&["rbind", option])).output();
        assert_eq!(propagation(&output, "/volume"), outer, "{option}");
        // What is only for the outer mount leaves the inner one as it was: a peer, or a slave of the host's.
        let found = propagation(&output, "/volume/inner");
        assert!(found == inner || (inner == "shared" && found == "master"), "{option}: {found}");
    }
}

fn mounts_pass_through_a_shared_volume() {
    let volume = Volume::new("shared");
    for (option, passes_out) in [("rshared", true), ("rslave", false), ("rprivate", false)] {
        let script = "busybox mkdir -p /volume/made && busybox mount -t tmpfs tmpfs /volume/made && \
                      echo x > /volume/made/inside; echo done; \
                      while ! [ -e /volume/go ]; do sleep 0.01; done; ls /volume/later";
        let bundle = with_mount(script, volume.bind(&["rbind", option])).with(may_mount);
        let mut output = tempfile::tempfile().unwrap();
        let mut container = bundle.create(&output).unwrap();
        container.start().unwrap();
        while !read_all(&mut output).contains("done") && container.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let made = volume.path().join("made");
        assert_eq!(made.join("inside").exists(), passes_out, "{option}");
        let later = volume.path().join("later");
        fs::create_dir_all(&later).unwrap();
        mount(&["-t", "tmpfs", "tmpfs", later.to_str().unwrap()]);
        fs::write(later.join("from-host"), "").unwrap();
        fs::write(volume.path().join("go"), "").unwrap();
        container.wait().unwrap();
        container.delete().unwrap();
        assert_eq!(read_all(&mut output).contains("from-host"), option != "rprivate", "{option}");
        for path in [later.clone(), made].iter().take(if passes_out { 2 } else { 1 }) {
            assert!(Command::new("umount").arg(path).status().unwrap().success());
        }
        fs::remove_file(volume.path().join("go")).unwrap();
    }
}

fn propagation_of_the_root_is_as_asked() {
    for (value, expected) in [
        ("shared", "shared"),
        ("rshared", "shared"),
        ("slave", "master"),
        ("rslave", "master"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let bundle = Bundle::script("cat /proc/self/mountinfo")
            .with(|config| config["linux"]["rootfsPropagation"] = json!(value));
        // A root filesystem that is a mount of its own, which others share.
        let rootfs = bundle.rootfs();
        mount(&["--bind", rootfs.to_str().unwrap(), rootfs.to_str().unwrap()]);
        mount(&["--make-shared", rootfs.to_str().unwrap()]);
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ended = bundle.run();
        let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(Command::new("umount").arg(&rootfs).status().unwrap().success());
        assert_eq!(propagation(&ended.output, "/"), expected, "{value}");
        assert_eq!(before, after, "{value}: nothing of the container shows on the host");
    }
}

fn a_remount_changes_what_is_mounted() {
    let options = ["bind", "remount", "ro", "nodev"];
    let script = "echo x > /dev/shm/file; busybox grep /dev/shm /proc/mounts";
    let bundle = with_mount(script, json!({"destination": "/dev/shm", "options": options}));
    let output = bundle.output();
    assert!(output.contains("Read-only") && output.contains("ro,nosuid,nodev,noexec"), "{output}");
    let options = ["remount", "size=128k"];
    let mount = json!({"destination": "/dev/shm", "type": "tmpfs", "options": options});
    assert!(with_mount("cat /proc/mounts", mount).output().contains("size=128k"));
    let nothing = with_mount("true", json!({"destination": "/etc", "options": ["remount", "ro"]}));
    assert!(nothing.create_error().contains("mounts: /etc"), "{}", nothing.create_error());
}

fn files_sockets_and_devices_can_be_bound() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::write(dir.path().join("file"), "text\n").unwrap();
    let bundle =
        Bundle::script("cat /a/file; stat -c %F /a/socket /a/device; echo x > /a/device").with(|config| {
            let source = |name: &str| dir.path().join(name);
            for (name, source) in
                [("file", source("file")), ("socket", source("socket")), ("device", "/dev/null".into())]
            {
                let destination = Path::new("/a").join(name);
                push(
                    &mut config["mounts"],
                    json!({"destination": destination, "type": "bind", "source": source}),
                );
            }
        });
    assert_eq!(bundle.output(), "text\nsocket\ncharacter special file\n");
}

fn links_are_not_followed_where_that_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/bin/busybox", dir.path().join("link")).unwrap();
    let mount =
        json!({"destination": "/volume", "type": "bind", "source": dir.path(), "options": ["nosymfollow"]});
    let output = with_mount("stat -L -c %F /volume/link; busybox readlink /volume/link", mount).run().output;
    assert!(output.contains("symbolic link loop") || output.contains("Too many"), "{output}");
    assert!(output.ends_with("/bin/busybox\n"), "{output}");
}

fn only_the_second_cgroup_version_can_be_mounted() {
    let hierarchy = container::cgroup::Hierarchy::detect(Path::new("/")).unwrap();
    if hierarchy.v2.is_none() {
        println!("(skipped: this host has no v2 tree)");
        return;
    }
    let mount = json!({"destination": "/groups", "type": "cgroup2", "options": ["ro"]});
    let output = with_mount("cat /groups/cgroup.procs; echo 1 > /groups/cgroup.procs", mount).run().output;
    assert!(output.starts_with("1\n") && output.contains("Read-only"), "{output}");
}
