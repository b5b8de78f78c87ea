//! One container of `carve oci`, whose commands a test gives.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::Host;

/// A bundle, and commands for the one container that is made of it; deleted when dropped.
#[derive(Debug)]
pub struct OciContainer<'a> {
    host: &'a Host,
    /// The bundle's directory.
    pub dir: PathBuf,
}

impl<'a> OciContainer<'a> {
    /// One that runs this command, with changes to the default configuration.
    #[must_use]
    pub fn new(host: &'a Host, args: &[&str], change: impl FnOnce(&mut Value)) -> Self {
        Self { host, dir: host.bundle("bundle", args).with(change).dir }
    }

    /// The root filesystem's directory.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// An id that no other test's container has.
    #[must_use]
    pub fn id(&self) -> String {
        let parent = self.dir.parent().and_then(|dir| dir.file_name()).expect("it is on a host");
        parent.to_string_lossy().into_owned()
    }

    /// `carve oci ARGS…` in the bundle's directory, with `ID` standing for the id.
    #[must_use]
    pub fn carve(&self, args: &[&str]) -> Command {
        let id = self.id();
        let args: Vec<_> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { *arg }).collect();
        let mut command = self.host.oci_command(&args);
        command.stdin(Stdio::null()).current_dir(&self.dir);
        command
    }

    /// Runs `carve oci ARGS…` to its end, whatever that is.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.carve(args).output().expect("carve runs")
    }

    /// Runs `carve oci ARGS…`, which must succeed, and answers what it printed.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "carve oci {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `carve oci ARGS…`, which must fail with this code, and answers what it complained of.
    #[must_use]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "carve oci {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs the container, and leaves it alone.
    pub fn start(&self) {
        // Its streams are not the test's, whose end would be waited for otherwise.
        let mut command = self.carve(&["run", "--detach", "ID"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status().expect("carve runs");
        assert!(status.success(), "{status}");
    }

    /// `exec` of a shell script in the container, which must succeed.
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["exec", "ID", "sh", "-c", script])
    }
}

impl Drop for OciContainer<'_> {
    fn drop(&mut self) {
        let deleted = self.run(&["delete", "--force", "ID"]);
        assert!(std::thread::panicking() || deleted.status.success(), "{deleted:?}");
    }
}
