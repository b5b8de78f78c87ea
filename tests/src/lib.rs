//! End-to-end tests through the `carve` binary only. The tests are in `tests/tests/`, one file a subject; here is what
//! they share.
//!
//! A [`Host`] is a place to run carve in: a data root of its own, a network namespace of its own, and the binary that
//! was built. When it is dropped it takes a census: whatever carve left on it fails the test.

#![expect(clippy::print_stdout, reason = "why a test was skipped is part of its output")]

mod api;
mod census;
mod client;
mod conversation;
mod ended;
mod guest;
mod oci;
mod oci_caller;
mod oci_container;
mod processes;

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub use api::Api;
pub use census::Census;
pub use client::{Client, http_get, wait_at_most, wait_for};
pub use conversation::{Guest, OBEYS};
pub use ended::Ended;
pub use guest::{initramfs_of_checks, initramfs_with, kernel, kernel_of};
pub use oci::{OciBundle, WAITING};
pub use oci_caller::OciCaller;
pub use oci_container::OciContainer;
pub use processes::processes;
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

/// How long the kernel may take to clean up after processes and namespaces that have ended.
const SETTLE: Duration = Duration::from_secs(3);

/// Records that a test cannot run here, and why; `cargo xtask test` counts and prints it.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    println!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("CARVE_TEST_SKIPS") {
        let line = format!("{test}: {reason}\n");
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut f| f.write_all(line.as_bytes()))
            .expect("the list of skipped tests can be written");
    }
}

/// Why containers cannot be tested here, if so.
fn lacks_for_containers() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "root is needed".to_owned())
}

/// Why virtual machines cannot be tested here, if so.
fn lacks_for_vms() -> Option<String> {
    if let Some(reason) = lacks_for_containers() {
        return Some(reason);
    }
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Err(e) => Some(format!("/dev/kvm: {e}")),
        Ok(_) if kernel().is_none() => Some("no guest kernel; `cargo xtask setup` builds it".to_owned()),
        Ok(_) => None,
    }
}

/// Where the workspace is.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

/// The binary under test: `$CARVE_BIN`, or the release build.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("CARVE_BIN").map_or_else(|| workspace().join("target/release/carve"), PathBuf::from)
}

/// What runs a guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// What carve takes by itself on this host.
    Auto,
    /// KVM.
    Kvm,
    /// The interpreter.
    Soft,
}

impl Engine {
    /// As `--engine` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Soft => "soft",
        }
    }
}

/// A place to run carve in.
#[derive(Debug)]
pub struct Host {
    engine: Engine,
    dir: TempDir,
    before: Census,
}

impl Host {
    /// A place for containers, or a skipped test.
    #[must_use]
    pub fn for_containers() -> Option<Self> {
        Self::new(Engine::Auto, lacks_for_containers())
    }

    /// A place for both models, or a skipped test.
    #[must_use]
    pub fn for_vms() -> Option<Self> {
        Self::for_vms_with(Engine::Auto)
    }

    /// A place for both models where virtual machines have this engine, or a skipped test.
    #[must_use]
    pub fn for_vms_with(engine: Engine) -> Option<Self> {
        Self::new(engine, lacks_for_vms())
    }

    fn new(engine: Engine, lacks: Option<String>) -> Option<Self> {
        if let Some(reason) = lacks {
            skip(&reason);
            return None;
        }
        assert!(binary().is_file(), "{} is not there; `cargo build --release` makes it", binary().display());
        // Only the calling thread, which is this test's own, and what it starts.
        #[expect(deprecated, reason = "unsafe only with CLONE_FILES, which is not used")]
        rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).expect("namespaces for the test");
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
        )
        .expect("mounts of the test stay its own");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
        assert!(up.success());
        let dir = tempfile::Builder::new().prefix("carve-test-").tempdir().expect("a temporary directory");
        let host = Self { engine, before: Census::take(dir.path()), dir };
        Some(host)
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A path for a file of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `carve ARGS…` on this host.
    #[must_use]
    pub fn carve(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null()).env_remove("CARVE_ROOT");
        command.env("CARVE_ENGINE", self.engine.name());
        command
    }

    /// Runs `carve ARGS…` to its end, whatever that is.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.carve(args).run()
    }

    /// Runs `carve ARGS…`, which must succeed, and answers what it printed.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        self.carve(args).ok()
    }

    /// Runs `carve ARGS…`, which must fail with this code, and answers what it complained of.
    #[must_use]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        self.carve(args).fails(code)
    }

    /// The JSON that `carve ARGS…` prints.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(args)).expect("carve prints JSON")
    }

    /// Starts `carve ARGS…` and lets it run.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Client {
        Client::start(&mut self.carve(args))
    }

    /// Puts the base layer of the demo image, a busybox system, into the store as `busybox`.
    pub fn import_busybox(&self) {
        self.import("busybox", &["base.tar"], &["CMD [\"sh\"]"]);
    }

    /// Puts the demo image, a web server, into the store as `demo`.
    pub fn import_demo(&self) {
        let changes =
            std::fs::read_to_string(workspace().join("guest-images/demo/changes")).expect("the recipe");
        let changes: Vec<_> = changes.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        self.import("demo", &["base.tar", "app.tar"], &changes);
    }

    fn import(&self, name: &str, tars: &[&str], changes: &[&str]) {
        let mut command = self.carve(&["image", "import"]);
        for change in changes {
            command.args(["--change", change]);
        }
        command.arg("--name").arg(name);
        for tar in tars {
            let tar = workspace().join("target/images/demo").join(tar);
            assert!(tar.is_file(), "{} is not there; `cargo xtask setup` makes it", tar.display());
            command.arg(tar);
        }
        let _ = command.ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // The kernel takes a dead namespace's links away in its own time, which is milliseconds.
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = Census::take(self.dir.path()).beyond(&self.before);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "carve left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
