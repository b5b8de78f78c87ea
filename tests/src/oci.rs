//! A place for `carve oci`: bundles with busybox, a state directory and a cgroup parent of its own.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::{Ended, Host, binary};

/// A program that does nothing until it is killed.
pub const WAITING: [&str; 2] = ["sleep", "1000"];

/// Programs that busybox is, by these names.
const APPLETS: [&str; 19] = [
    "sh", "cat", "echo", "env", "grep", "head", "id", "kill", "ls", "mount", "ps", "readlink", "sleep",
    "stat", "stty", "touch", "true", "tty", "wc",
];

impl Host {
    /// A bundle of this name that runs a command; the configuration is carve's default, in cgroups of the test's own.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn bundle(&self, name: &str, args: &[&str]) -> OciBundle {
        let dir = self.path(name);
        let rootfs = dir.join("rootfs");
        for sub in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(sub)).expect("a root filesystem can be made");
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox is there");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("a link can be made");
        }
        let made = Command::new(binary()).args(["oci", "spec", "--bundle"]).arg(&dir).status();
        assert!(made.expect("carve runs").success());
        let mut config: Value =
            serde_json::from_slice(&fs::read(dir.join("config.json")).expect("it was written"))
                .expect("JSON");
        config["process"]["args"] = json!(args);
        config["process"]["env"] = json!(["PATH=/bin"]);
        let own = self.path("").file_name().expect("it has a name").to_string_lossy().into_owned();
        config["linux"]["cgroupsPath"] = json!(format!("/carve-oci/{own}-{name}"));
        let bundle = OciBundle { dir, config };
        bundle.write();
        bundle
    }

    /// The state directory of `carve oci`.
    #[must_use]
    pub fn oci_root(&self) -> PathBuf {
        self.path("oci")
    }

    /// `carve oci ARGS…` with the state directory of this place, to its end; output goes through pipes.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn oci(&self, args: &[&str]) -> Output {
        self.oci_command(args).run()
    }

    /// The same, which must succeed; its standard output.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn oci_ok(&self, args: &[&str]) -> String {
        self.oci_command(args).ok()
    }

    /// The same, which must fail; what it complains of.
    ///
    /// # Panics
    /// When it does not, with the code 1.
    #[must_use]
    pub fn oci_fails(&self, args: &[&str]) -> String {
        self.oci_command(args).fails(1)
    }

    /// The same, with what a detached container writes going to a file: a pipe would be held open by it.
    ///
    /// # Panics
    /// When it fails.
    pub fn oci_detached(&self, args: &[&str], output: &Path) {
        let file = File::create(output).expect("a file can be made");
        let mut command = self.oci_command(args);
        command.stdout(file.try_clone().expect("a copy")).stderr(file);
        let status = command.status().expect("carve runs");
        assert!(status.success(), "carve oci {args:?}: {}", fs::read_to_string(output).unwrap_or_default());
    }

    /// What a shell script prints that runs as the program of a container, with changes to the default configuration.
    ///
    /// # Panics
    /// When the container cannot be run, or the script fails.
    pub fn oci_prints(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        let bundle = self.bundle("printing", &["sh", "-c", script]).with(change);
        let printed = self.oci_ok(&["run", "--bundle", bundle.path(), "printing"]);
        fs::remove_dir_all(&bundle.dir).expect("the bundle can be removed");
        printed
    }

    /// What `carve oci create` complains of, which must refuse this configuration.
    ///
    /// # Panics
    /// When it does not.
    pub fn oci_refuses(&self, change: impl FnOnce(&mut Value)) -> String {
        let bundle = self.bundle("refused", &["true"]).with(change);
        let complaint = self.oci_fails(&["create", "--bundle", bundle.path(), "refused"]);
        assert_eq!(self.oci_ok(&["list", "--quiet"]), "");
        fs::remove_dir_all(&bundle.dir).expect("the bundle can be removed");
        complaint
    }

    /// A container's state.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    pub fn oci_state(&self, id: &str) -> Value {
        serde_json::from_str(&self.oci_ok(&["state", id])).expect("state is JSON")
    }

    /// The command, without input.
    #[must_use]
    pub fn oci_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("oci").arg("--root").arg(self.oci_root()).args(args).stdin(Stdio::null());
        command
    }
}

/// A bundle on disk, and its configuration.
#[derive(Debug)]
pub struct OciBundle {
    /// Its directory.
    pub dir: PathBuf,
    /// What is in its config.json.
    pub config: Value,
}

impl OciBundle {
    /// Changes the configuration, on disk too.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.write();
        self
    }

    /// Its directory, for a command line.
    ///
    /// # Panics
    /// Never: temporary directories are UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.dir.to_str().expect("temporary directories are UTF-8")
    }

    /// The root filesystem's directory.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).expect("config.json can be written");
    }
}
