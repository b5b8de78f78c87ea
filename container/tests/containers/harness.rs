//! Runs the cases and helps them: a bundle with busybox, a container run to its end, a census.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use container::{Container, CreateError, CreateOptions, ExitStatus};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A name and what it does. A panic fails it.
pub(crate) type Case = (&'static str, fn());

/// Set, to the process id of the outer one, in the process that runs the cases and in its helpers.
const INSIDE: &str = "CARVE_TEST_INSIDE";

/// The argument that makes this program a helper in a process of its own.
pub(crate) const HELPER: &str = "--helper";

/// Runs the cases that the command line names, or all.
pub(crate) fn main(cases: &[Case]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some(HELPER) {
        match args.get(1).map(String::as_str) {
            Some("agent") => crate::notify_agent::run(&args[2..]),
            _ => crate::lifecycle::helper(&args[1..]),
        }
        return;
    }
    if args.iter().any(|arg| arg == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| wanted(name)).collect();
    let out = cases.len() - chosen.len();
    let cannot = cannot_run();
    println!("\nrunning {} tests", chosen.len());
    if let Some(reason) = cannot {
        for (name, _) in &chosen {
            println!("test {name} ... ignored, {reason}");
        }
        let ignored = chosen.len();
        println!(
            "\ntest result: ok. 0 passed; 0 failed; {ignored} ignored; 0 measured; {out} filtered out\n"
        );
        return;
    }
    let (passed, failed) = run(&chosen);
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {out} filtered out\n"
    );
    std::process::exit(i32::from(failed != 0));
}

fn run(cases: &[&Case]) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases {
        let before = census();
        let outcome = catch_unwind(|| {
            case();
            let after = census();
            assert_eq!(before, after, "something was left behind");
        });
        match outcome {
            Ok(()) => passed += 1,
            Err(_) => {
                failed += 1;
                clear_up();
            }
        }
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
    }
    (passed, failed)
}

/// Why the cases cannot run here; if they can, moves to namespaces of their own.
fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("needs /bin/busybox (package busybox-static)".to_owned());
    }
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    // unshare(1) and not unshare(2), which is unsafe to call and so not for tests.
    let exe = std::env::current_exe().expect("a test knows its own program");
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(exe)
        .args(std::env::args().skip(1))
        .env(INSIDE, std::process::id().to_string())
        .status();
    match status {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Some(format!("needs unshare(1): {error}")),
    }
}

/// All cgroups of this run are below this one.
pub(crate) fn cgroup_parent() -> PathBuf {
    PathBuf::from(format!("/carve-tests-{}", std::env::var(INSIDE).expect("is set inside")))
}

/// Removes what a case that failed has left, so that the next one is not blamed.
fn clear_up() {
    let hierarchy = container::cgroup::Hierarchy::detect(Path::new("/")).expect("cgroups can be found");
    let group = container::cgroup::Cgroup::open(&hierarchy, &cgroup_parent()).expect("the path is plain");
    if let Err(error) = group.remove() {
        println!("{error}");
    }
}

/// Everything that a container could leave behind.
fn census() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts can be read");
    found.extend(mounts.lines().map(|line| format!("mount {line}")));
    let children = fs::read_to_string("/proc/self/task/self/children")
        .or_else(|_| fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())));
    found.extend(children.unwrap_or_default().split_whitespace().map(|pid| format!("process {pid}")));
    let hierarchy = container::cgroup::Hierarchy::detect(Path::new("/")).expect("cgroups can be found");
    let dirs = hierarchy.v1.iter().map(|tree| &tree.dir).chain(hierarchy.v2.as_ref().map(|tree| &tree.dir));
    for dir in dirs {
        let group = dir.join(cgroup_parent().strip_prefix("/").expect("it is absolute"));
        if group.exists() {
            found.insert(format!("cgroup {}", group.display()));
        }
    }
    found.extend(fs::read_dir("/proc/self/fd").expect("descriptors can be listed").filter_map(|entry| {
        let path = entry.ok()?.path();
        Some(format!("descriptor {} {}", path.display(), fs::read_link(&path).ok()?.display()))
    }));
    found.retain(|line| !line.ends_with("/fd"));
    found
}

/// A bundle in a temporary directory: busybox as root filesystem, the default configuration.
pub(crate) struct Bundle {
    pub(crate) dir: TempDir,
    pub(crate) config: Value,
}

/// What a container that has ended leaves: its status and all it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

impl Bundle {
    /// Runs this command.
    pub(crate) fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        // Other users inside must be able to enter.
        let bundle = Self { config: default_config(args), dir };
        let bin = bundle.rootfs().join("bin");
        fs::create_dir_all(&bin).expect("a root filesystem can be made");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox can be copied");
        for applet in
            ["sh", "echo", "cat", "id", "ls", "true", "sleep", "hostname", "unshare", "mknod", "stat", "dd"]
        {
            symlink("busybox", bin.join(applet)).expect("a link can be made");
        }
        for empty in ["proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir(bundle.rootfs().join(empty)).expect("a directory can be made");
        }
        bundle
    }

    /// Runs a shell script.
    pub(crate) fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// Changes the configuration.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Gives its root filesystem to this user and group of the host.
    pub(crate) fn give_to(&self, id: u32) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        for path in ["", "tmp"] {
            chown(self.rootfs().join(path), Some(id), Some(id)).expect("it is ours");
        }
    }

    /// Writes the configuration and reads it as the runtime does.
    fn load(&self) -> Result<container::Bundle, container::BundleError> {
        fs::write(self.dir.path().join("config.json"), self.config.to_string())
            .expect("config.json can be written");
        container::Bundle::load(self.dir.path())
    }

    /// Creates the container with this as its output.
    pub(crate) fn create(&self, output: &File) -> Result<Container, CreateError> {
        let bundle = self.load().expect("the bundle can be read");
        let id = self.dir.path().file_name().expect("it has a name").to_string_lossy().replace('.', "t");
        let null = File::open("/dev/null").expect("/dev/null can be opened");
        let copy = || OwnedFd::from(output.try_clone().expect("a descriptor can be copied"));
        let options = CreateOptions::new([null.into(), copy(), copy()], cgroup_parent().join(&id));
        container::create(&bundle, &id, options)
    }

    /// Runs the container to its end.
    pub(crate) fn run(&self) -> Ended {
        let mut output = tempfile::tempfile().expect("a temporary file can be made");
        let mut container = self.create(&output).expect("the container can be created");
        let started = container.start();
        let status = container.wait().expect("the container can be waited for");
        container.delete().expect("the container can be deleted");
        started.expect("the container can be started");
        Ended { status, output: read_all(&mut output) }
    }

    /// Runs the container to its end, which must be a good one, and returns its output.
    pub(crate) fn output(&self) -> String {
        let Ended { status, output } = self.run();
        assert_eq!(status, ExitStatus::Exited(0), "{output}");
        output
    }

    /// What creating it fails with.
    pub(crate) fn create_error(&self) -> String {
        self.outcome().expect_err("the container was created")
    }

    /// Creates and deletes it, or says why it cannot be created.
    pub(crate) fn outcome(&self) -> Result<(), String> {
        self.load().map_err(|error| error.to_string())?;
        let output = tempfile::tempfile().expect("a temporary file can be made");
        let mut container = self.create(&output).map_err(|error| error.to_string())?;
        container.delete().expect("the container can be deleted");
        Ok(())
    }
}

/// All that was written to a file so far.
pub(crate) fn read_all(file: &mut File) -> String {
    let mut text = Vec::new();
    file.rewind().expect("a file can be rewound");
    file.read_to_end(&mut text).expect("a file can be read");
    String::from_utf8_lossy(&text).into_owned()
}

fn default_config(args: &[&str]) -> Value {
    let mut config = serde_json::to_value(container::spec::default_spec()).expect("a spec is JSON");
    config["process"]["args"] = json!(args);
    config["process"]["env"] = json!(["PATH=/bin"]);
    config
}

/// Gives the container a user namespace, whose ids are those from `id` on of the host.
pub(crate) fn map_ids(config: &mut Value, id: u32) {
    push(&mut config["linux"]["namespaces"], json!({"type": "user"}));
    for mappings in ["uidMappings", "gidMappings"] {
        config["linux"][mappings] = json!([{"containerID": 0, "hostID": id, "size": 65536}]);
    }
}

/// Adds to a list of the configuration.
pub(crate) fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
