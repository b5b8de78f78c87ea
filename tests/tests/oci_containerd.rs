//! `carve-oci` as the runtime of Debian's containerd: `docs/use-with-podman-and-containerd.md`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sha2::{Digest, Sha256};
use tests::{Ended, OciCaller, wait_for};

/// containerd with directories of its own, and an image in it.
struct Containerd {
    caller: OciCaller,
    daemon: Child,
}

/// The image's name.
const IMAGE: &str = "localhost/busy:latest";

impl Containerd {
    fn new() -> Option<Self> {
        let caller = OciCaller::new("containerd")?;
        let host = &caller.host;
        let at = |name: &str| host.path(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            at("root"),
            at("state"),
            at("c.sock"),
            at("t.sock")
        );
        fs::write(host.path("config.toml"), config).expect("what it needs can be made");
        let log = File::create(host.path("log")).expect("what it needs can be made");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(host.path("config.toml")).stdin(Stdio::null());
        let daemon = command
            .stdout(log.try_clone().expect("what it needs can be made"))
            .stderr(log)
            .spawn()
            .expect("what it needs can be made");
        let containerd = Self { caller, daemon };
        wait_for("containerd listens", || containerd.run(&["version"]).status.success().then_some(()));
        let image = containerd.image();
        containerd.ok(&[
            "images",
            "import",
            "--snapshotter",
            "native",
            image.to_str().expect("what it needs can be made"),
        ]);
        Some(containerd)
    }

    /// An archive of an OCI image layout with busybox, as `ctr images import` takes it.
    fn image(&self) -> PathBuf {
        let host = &self.caller.host;
        let layout = host.path("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("what it needs can be made");
        let blob = |content: Vec<u8>, media_type: &str| {
            let digest = hex::encode(Sha256::digest(&content));
            fs::write(blobs.join(&digest), &content).expect("what it needs can be made");
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
        };
        let layer = fs::read(self.caller.layer()).expect("it was written");
        let layer = blob(layer, "application/vnd.oci.image.layer.v1.tar");
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let mut manifest = blob(manifest.to_string().into_bytes(), media_type);
        manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
        fs::write(
            layout.join("index.json"),
            json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
        )
        .expect("what it needs can be made");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)
            .expect("what it needs can be made");
        let archive = host.path("image.tar");
        let _ = Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg(".").ok();
        archive
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.caller.host.path("c.sock")).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).run()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    /// `ctr run` with carve as the runtime.
    fn container(&self, flags: &[&str], id: &str, command: &[&str]) -> Output {
        let runtime = self.caller.runtime.to_str().expect("temporary directories are UTF-8");
        let root = self.caller.host.path("runc");
        let root = root.to_str().expect("temporary directories are UTF-8");
        let fixed = ["run", "--snapshotter", "native", "--runc-binary", runtime, "--runc-root", root];
        self.run(&[&fixed, flags, &[IMAGE, id], command].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in ["one", "two", "three"] {
            let _ = self.run(&["task", "kill", "--signal", "KILL", id]);
            let _ = self.run(&["task", "rm", "--force", id]);
        }
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn containerd_runs_containers_with_their_exit_codes() {
    let Some(containerd) = Containerd::new() else { return };
    let output = containerd.container(&["--rm"], "one", &["/bin/echo", "hello"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"hello\n".as_slice()),
        "{output:?}"
    );
    let output = containerd.container(&["--rm"], "two", &["/bin/sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let output = containerd.container(&["--rm"], "three", &["/bin/no-such-program"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("executable file not found"), "{output:?}");
}

#[test]
fn containerd_drives_a_containers_life() {
    let Some(containerd) = Containerd::new() else { return };
    let output = containerd.container(&["--detach"], "one", &["/bin/sleep", "1000"]);
    assert!(output.status.success(), "{output:?}");
    let status = || {
        let listed = containerd.ok(&["task", "ls"]);
        let line = listed.lines().find(|line| line.starts_with("one ")).unwrap_or_default().to_owned();
        line.split_whitespace().last().unwrap_or_default().to_owned()
    };
    assert_eq!(status(), "RUNNING");
    let inside = containerd.ok(&["task", "exec", "--exec-id", "e1", "one", "/bin/echo", "inside"]);
    assert_eq!(inside, "inside\n");
    containerd.ok(&["task", "pause", "one"]);
    assert_eq!(status(), "PAUSED");
    containerd.ok(&["task", "resume", "one"]);
    assert_eq!(status(), "RUNNING");
    assert!(containerd.ok(&["task", "ps", "one"]).lines().count() >= 2);
    assert!(containerd.ok(&["task", "metrics", "one"]).contains("pids.current"));
    containerd.ok(&["task", "kill", "--signal", "KILL", "one"]);
    wait_for("it has ended", || (status() == "STOPPED").then_some(()));
    let _ = containerd.run(&["task", "rm", "one"]);
    containerd.ok(&["containers", "rm", "one"]);
}
