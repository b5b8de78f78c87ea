//! One container of `carve oci`, whose commands a test gives.

use std::{
    ops::Deref,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{Ended, Host, OciBundle};

/// A bundle, and commands for the one container that is made of it; deleted when dropped.
#[derive(Debug)]
pub struct OciContainer<'a> {
    host: &'a Host,
    bundle: OciBundle,
}

impl<'a> OciContainer<'a> {
    /// One that runs this command, with changes to the default configuration.
    #[must_use]
    pub fn new(host: &'a Host, args: &[&str], change: impl FnOnce(&mut Value)) -> Self {
        Self { host, bundle: host.bundle("bundle", args).with(change) }
    }

    /// An id that no other test's container has.
    #[must_use]
    pub fn id(&self) -> String {
        let parent = self.bundle.dir.parent().and_then(|dir| dir.file_name()).expect("it is on a host");
        parent.to_string_lossy().into_owned()
    }

    /// `carve oci ARGS…` in the bundle's directory, with `ID` standing for the id.
    #[must_use]
    pub fn carve(&self, args: &[&str]) -> Command {
        let id = self.id();
        let args: Vec<_> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { *arg }).collect();
        let mut command = self.host.oci_command(&args);
        command.current_dir(&self.bundle.dir);
        command
    }

    /// Runs `carve oci ARGS…` to its end, whatever that is.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.carve(args).run()
    }

    /// Runs `carve oci ARGS…`, which must succeed, and answers what it printed.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        self.carve(args).ok()
    }

    /// Runs `carve oci ARGS…`, which must fail with this code, and answers what it complained of.
    #[must_use]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        self.carve(args).fails(code)
    }

    /// Runs the container, and leaves it alone.
    pub fn start(&self) {
        let run = ["run", "--detach", "--bundle", self.bundle.path(), &self.id()];
        self.host.oci_detached(&run, &self.bundle.dir.join("output"));
    }

    /// `exec` of a shell script in the container, which must succeed.
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["exec", "ID", "sh", "-c", script])
    }
}

impl Deref for OciContainer<'_> {
    type Target = OciBundle;

    fn deref(&self) -> &OciBundle {
        &self.bundle
    }
}

impl Drop for OciContainer<'_> {
    fn drop(&mut self) {
        let deleted = self.run(&["delete", "--force", "ID"]);
        assert!(std::thread::panicking() || deleted.status.success(), "{deleted:?}");
    }
}
