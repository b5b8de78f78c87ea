//! `carve-oci` as the runtime of Debian's podman: `docs/use-with-podman-and-containerd.md`.

use std::fs;
use std::process::{Command, Output, Stdio};

use tests::{Ended, OciCaller, wait_for};

/// podman with storage, state and configuration of its own, and carve as its runtime.
struct Podman(OciCaller);

impl Podman {
    fn new() -> Option<Self> {
        let caller = OciCaller::new("podman")?;
        let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\"]\nnetns = \"none\"\n\
                    [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(caller.host.path("containers.conf"), conf).expect("what it needs can be made");
        let layer = caller.layer();
        let podman = Self(caller);
        podman.ok(&["import", layer.to_str().expect("temporary directories are UTF-8"), "busy"]);
        Some(podman)
    }

    fn command(&self, args: &[&str]) -> Command {
        let Self(OciCaller { host, runtime }) = self;
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", host.path("containers.conf")).stdin(Stdio::null());
        command.arg("--root").arg(host.path("storage")).arg("--runroot").arg(host.path("run"));
        command.args(["--storage-driver", "vfs", "--runtime"]).arg(runtime).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).run()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    fn code(&self, args: &[&str]) -> Option<i32> {
        self.run(args).status.code()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        // podman binds its storage onto itself.
        let _ = Command::new("umount")
            .arg("-q")
            .arg(self.0.host.path("storage/vfs"))
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn podman_runs_containers_with_their_exit_codes() {
    let Some(podman) = Podman::new() else { return };
    assert_eq!(podman.ok(&["run", "--rm", "busy", "/bin/echo", "hello"]), "hello\n");
    assert_eq!(podman.code(&["run", "--rm", "busy", "/bin/sh", "-c", "exit 9"]), Some(9));
    assert_eq!(podman.code(&["run", "--rm", "busy", "/bin/no-such-program"]), Some(127));
    assert_eq!(podman.code(&["run", "--rm", "busy", "/etc"]), Some(126));
    let limited =
        ["run", "--rm", "--memory", "64m", "--pids-limit", "50", "--user", "7:8", "busy", "/bin/id"];
    assert_eq!(podman.ok(&limited), "uid=7 gid=8 groups=8\n");
    assert_eq!(
        podman.ok(&["run", "--rm", "--read-only", "busy", "/bin/sh", "-c", "touch /x || echo no"]),
        "no\n"
    );
    let script = "test -t 0 && test -c /dev/console && echo terminal";
    assert_eq!(podman.ok(&["run", "--rm", "--tty", "busy", "/bin/sh", "-c", script]).trim(), "terminal");
}

#[test]
fn podman_gives_terminals() {
    let Some(podman) = Podman::new() else { return };
    let about = "tty; echo controls > /dev/tty; stat -c %u $(tty); exit 7";
    let run = podman.run(&["run", "--rm", "--tty", "--user", "12", "busy", "/bin/sh", "-c", about]);
    assert_eq!(run.status.code(), Some(7), "{run:?}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "/dev/pts/0\r\ncontrols\r\n12\r\n");
    let _ = podman.ok(&["run", "--detach", "--name", "one", "busy", "/bin/sleep", "1000"]);
    let exec = podman.run(&["exec", "--tty", "--user", "12", "one", "/bin/sh", "-c", about]);
    assert_eq!(exec.status.code(), Some(7), "{exec:?}");
    assert_eq!(exec.stdout, run.stdout);
}

#[test]
fn podman_drives_a_containers_life() {
    let Some(podman) = Podman::new() else { return };
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    podman.ok(&[
        "run",
        "--detach",
        "--name",
        "one",
        "--health-cmd",
        "test -d /bin",
        "busy",
        "/bin/sh",
        "-c",
        script,
    ]);
    let status = || podman.ok(&["inspect", "--format", "{{.State.Status}}", "one"]).trim().to_owned();
    assert_eq!(status(), "running");
    assert_eq!(podman.ok(&["exec", "one", "/bin/echo", "inside"]), "inside\n");
    assert_eq!(podman.code(&["exec", "one", "/bin/sh", "-c", "exit 5"]), Some(5));
    assert_eq!(podman.code(&["exec", "one", "/bin/no-such-program"]), Some(127));
    assert_eq!(
        podman.ok(&["exec", "--user", "7", "--env", "A=b", "one", "/bin/sh", "-c", "echo $A $(id -u)"]),
        "b 7\n"
    );
    assert!(podman.ok(&["top", "one", "pid", "comm"]).contains("sh"));
    assert_eq!(
        podman.ok(&["exec", "--tty", "one", "/bin/sh", "-c", "test -t 1 && echo terminal"]).trim(),
        "terminal"
    );
    podman.ok(&["healthcheck", "run", "one"]);
    podman.ok(&["pause", "one"]);
    assert_eq!(status(), "paused");
    podman.ok(&["unpause", "one"]);
    assert_eq!(status(), "running");
    podman.ok(&["stop", "--time", "10", "one"]);
    assert_eq!(podman.ok(&["inspect", "--format", "{{.State.ExitCode}}", "one"]).trim(), "3");
    podman.ok(&["start", "one"]);
    podman.ok(&["kill", "--signal", "KILL", "one"]);
    wait_for("it has ended", || (status() == "exited").then_some(()));
    podman.ok(&["rm", "one"]);
    assert_eq!(podman.ok(&["ps", "--all", "--quiet"]), "");
}
