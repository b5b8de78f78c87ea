//! `carve oci`: create, start, state, kill, delete, in commands of their own; hooks; what a killed command leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use serde_json::{Value, json};
use tests::{Host, wait_for};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_life_in_five_commands() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sh", "-c", "echo started; exec sleep 1000"]);
    let (output, pid_file) = (host.path("output"), host.path("pid"));
    let pid_path = pid_file.to_str().unwrap();
    host.oci_detached(&["create", "--bundle", bundle.path(), "--pid-file", pid_path, "one"], &output);
    let state = host.oci_state("one");
    assert_eq!(state["status"], "created");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    assert_eq!(state["bundle"], bundle.path());
    assert_eq!(fs::read_to_string(&output).unwrap(), "");
    // What needs another state has no effect.
    assert!(host.oci_fails(&["delete", "one"]).contains("it is created"));
    assert!(host.oci_fails(&["create", "--bundle", bundle.path(), "one"]).contains("exists already"));

    let _ = host.oci_ok(&["start", "one"]);
    wait_for("it runs", || (fs::read_to_string(&output).unwrap() == "started\n").then_some(()));
    assert_eq!(host.oci_state("one")["status"], "running");
    assert!(host.oci_fails(&["start", "one"]).contains("it is running"));
    assert!(host.oci_fails(&["delete", "one"]).contains("it is running"));

    let _ = host.oci_ok(&["kill", "one", "KILL"]);
    wait_for("it has ended", || (host.oci_state("one")["status"] == "stopped").then_some(()));
    assert_eq!(host.oci_state("one")["pid"], 0);
    assert!(host.oci_fails(&["kill", "one", "KILL"]).contains("container not running"));
    assert!(host.oci_fails(&["start", "one"]).contains("it is stopped"));

    let _ = host.oci_ok(&["delete", "one"]);
    for verb in ["state", "start", "kill", "delete"] {
        let complaint = host.oci_fails(&[verb, "one"]);
        assert!(complaint.contains("does not exist"), "{verb}: {complaint}");
    }
}

#[test]
fn run_gives_the_programs_own_status_and_leaves_nothing() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sh", "-c", "echo hello; exit 42"]);
    let output = host.oci(&["run", "--bundle", bundle.path(), "one"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(42), b"hello\n".as_slice()));
    assert_eq!(host.oci_ok(&["list", "--format", "json"]).trim(), "[]");
    let bundle = bundle.with(|config| config["process"]["args"] = json!(["no-such-program"]));
    let log = host.path("log");
    let output = host.oci(&[
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "run",
        "--bundle",
        bundle.path(),
        "one",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("executable file not found"), "{line}");
}

/// The kernel keeps the first process of a pid namespace until all of its processes are reaped.
#[test]
fn a_container_has_ended_even_if_nobody_reaps_what_was_executed_in_it() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sleep", "1000"]);
    let output = host.path("output");
    host.oci_detached(&["run", "--detach", "--bundle", bundle.path(), "one"], &output);
    // What is left by the command becomes a child of this process, which does not wait for it.
    set_child_subreaper(Some(getpid())).unwrap();
    let pid_file = host.path("pid");
    let exec = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), "one", "sleep", "1000"];
    host.oci_detached(&exec, &output);
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let _ = host.oci_ok(&["kill", "one", "KILL"]);
    wait_for("it has ended", || host.oci_ok(&["state", "one"]).contains("stopped").then_some(()));
    let began = Instant::now();
    let _ = host.oci_ok(&["delete", "one"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let left = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
    assert!(left.is_some_and(|(_, status)| status.terminating_signal() == Some(9)));
    set_child_subreaper(None).unwrap();
}

/// As with runc: whoever drives the runtime reads its log, and standard error is the program's.
#[test]
fn warnings_go_to_the_log_if_there_is_one() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["true"]).with(|config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NO_SUCH"]);
    });
    let run = ["run", "--bundle", bundle.path(), "one"];
    let output = host.oci(&run);
    assert!(output.status.success() && stderr(&output).contains("WARN"), "{}", stderr(&output));
    assert!(stderr(&output).contains("CAP_NO_SUCH"), "{}", stderr(&output));
    let log = host.path("log");
    let with_log = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    let output = host.oci(&[&with_log, run.as_slice()].concat());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warning = lines.iter().find(|line| line["msg"].as_str().unwrap().contains("CAP_NO_SUCH"));
    assert!(warning.is_some_and(|line| line["level"] == "warning"), "{text}");
    // Profiles are written for many kernels, so what one does not know is a detail.
    let bundle = bundle.with(|config| {
        config["linux"]["seccomp"]["syscalls"][0]["names"]
            .as_array_mut()
            .unwrap()
            .push("no_such_call".into());
    });
    let run = ["run", "--bundle", bundle.path(), "one"];
    assert!(!stderr(&host.oci(&run)).contains("no_such_call"));
    let told = stderr(&host.oci(&[["--debug"].as_slice(), &run].concat()));
    assert!(told.contains("DEBUG linux.seccomp") && told.contains("no_such_call"), "{told}");
}

#[test]
fn nobody_reading_standard_error_changes_nothing() {
    let Some(host) = Host::for_containers() else { return };
    let closed = || std::io::pipe().unwrap().1;
    let bundle = host.bundle("b", &["sh", "-c", "exit 7"]).with(|config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NO_SUCH"]);
    });
    let mut run = host.oci_command(&["run", "--bundle", bundle.path(), "one"]);
    assert_eq!(run.stdin(Stdio::null()).stderr(closed()).status().unwrap().code(), Some(7));
    let log = host.path("log");
    let mut state = host.oci_command(&["--log", log.to_str().unwrap(), "state", "one"]);
    assert_eq!(state.stdin(Stdio::null()).stderr(closed()).status().unwrap().code(), Some(1));
    assert!(fs::read_to_string(&log).unwrap().contains("does not exist"));
}

#[test]
fn hooks_run_in_their_order_where_they_belong() {
    let Some(host) = Host::for_containers() else { return };
    let log = host.path("log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let hook = |name: &str, log: &str| {
        // The state has one line; the root directory shows which files are seen.
        let script =
            format!("read state; echo {name} $(ls -d /rootfs-marker 2>/dev/null) \"$state\" >> {log}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 20}])
    };
    let outside = log.to_str().unwrap();
    let bundle = host.bundle("b", &["sh", "-c", "echo program >> /log"]).with(|config| {
        config["annotations"] = json!({"colour": "blue"});
        config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/log", "type": "bind", "source": outside, "options": ["bind", "rw"]}),
        );
        config["hooks"] = json!({
            "prestart": hook("prestart", outside),
            "createRuntime": hook("createRuntime", outside),
            "createContainer": hook("createContainer", outside),
            "startContainer": hook("startContainer", "/log"),
            "poststart": hook("poststart", outside),
            "poststop": hook("poststop", outside),
        });
    });
    fs::write(bundle.rootfs().join("rootfs-marker"), "").unwrap();
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    let names = || {
        let text = fs::read_to_string(&log).unwrap();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["prestart", "createRuntime", "createContainer"]);
    let pid = host.oci_state("one")["pid"].clone();
    let _ = host.oci_ok(&["start", "one"]);
    wait_for("it has ended", || (host.oci_state("one")["status"] == "stopped").then_some(()));
    let _ = host.oci_ok(&["delete", "one"]);
    let mut all = names();
    // The program and the hook that follows its start run at the same time.
    all[4..6].sort_unstable();
    assert_eq!(
        all,
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "program",
            "poststop"
        ]
    );
    let text = fs::read_to_string(&log).unwrap();
    for line in text.lines().filter(|line| *line != "program") {
        let inside = line.contains("/rootfs-marker");
        assert_eq!(inside, line.starts_with("startContainer"), "{line}");
        let state: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        assert_eq!(state["annotations"]["colour"], "blue", "{line}");
        if line.starts_with("prestart") || line.starts_with("createRuntime") {
            assert_eq!(state["pid"], pid, "{line}");
        }
    }
}

#[test]
fn a_hook_that_fails_ends_the_container_and_is_named() {
    let Some(host) = Host::for_containers() else { return };
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let log = host.path(kind);
        let poststop = format!("echo gone > {}", log.display());
        let bundle = host.bundle(&format!("b-{kind}"), &["true"]).with(|config| {
            config["hooks"] = json!({
                "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", poststop]}],
            });
            config["hooks"][kind] =
                json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck; exit 3"]}]);
        });
        let message = host.oci_fails(&["run", "--bundle", bundle.path(), "one"]);
        assert!(
            message.contains(&format!("hooks.{kind}[0]")) && message.contains("no luck"),
            "{kind}: {message}"
        );
        assert_eq!(fs::read_to_string(&log).unwrap(), "gone\n", "{kind}");
        assert_eq!(host.oci_ok(&["list", "--quiet"]), "", "{kind}");
    }
}

#[test]
fn a_creator_killed_while_its_hook_runs_leaves_what_delete_removes() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["true"]).with(|config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "3"]}]});
    });
    let mut command = host.oci_command(&["create", "--bundle", bundle.path(), "one"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut creator = command.spawn().unwrap();
    wait_for("it is being created", || {
        let listed = host.oci_ok(&["list", "--format", "json"]);
        listed.contains("creating").then_some(())
    });
    kill_process(Pid::from_child(&creator), Signal::KILL).unwrap();
    let _ = creator.wait().unwrap();
    wait_for("it is known to be over", || {
        host.oci_ok(&["list", "--format", "json"]).contains("stopped").then_some(())
    });
    let _ = host.oci_ok(&["delete", "one"]);
    assert_eq!(host.oci_ok(&["list", "--quiet"]), "");
}

/// They clean up: rather twice than never. The second time they cannot keep the container from going.
#[test]
fn poststop_hooks_are_run_again_when_delete_was_killed_while_they_ran() {
    let Some(host) = Host::for_containers() else { return };
    let (log, record) = (host.path("log"), host.oci_root().join("one/state.json"));
    let script = format!(
        "[ -e {1} ] && echo there >> {0} || echo gone >> {0}; [ $(wc -l < {0}) = 1 ] && exec sleep 3 || true",
        log.display(),
        record.display()
    );
    let bundle = host.bundle("b", &["true"]).with(|config| {
        config["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    host.oci_detached(&["run", "--detach", "--bundle", bundle.path(), "one"], &host.path("output"));
    wait_for("its end", || (host.oci_state("one")["status"] == "stopped").then_some(()));
    let mut deleting = host.oci_command(&["delete", "one"]).stdin(Stdio::null()).spawn().unwrap();
    let read = || fs::read_to_string(&log).unwrap_or_default();
    wait_for("the hook", || (read() == "there\n").then_some(()));
    deleting.kill().unwrap();
    deleting.wait().unwrap();
    assert_eq!(host.oci_state("one")["status"], "stopped");
    let _ = host.oci_ok(&["delete", "one"]);
    assert_eq!((read().as_str(), record.exists()), ("there\ngone\n", false));
}

#[test]
fn one_broken_container_hides_no_other_and_goes_by_force() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sleep", "1000"]);
    host.oci_detached(&["run", "--detach", "--bundle", bundle.path(), "good"], &host.path("output"));
    for (id, content) in [("empty", None), ("damaged", Some("{\"id\":")), ("wrong", Some("[]"))] {
        fs::create_dir(host.oci_root().join(id)).unwrap();
        if let Some(content) = content {
            fs::write(host.oci_root().join(id).join("state.json"), content).unwrap();
        }
    }
    let listed = host.oci(&["list", "--format", "json"]);
    assert!(listed.status.success());
    let states: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let running: Vec<_> =
        states.as_array().unwrap().iter().filter(|state| state["status"] == "running").collect();
    assert_eq!(running.len(), 1, "{states}");
    assert!(stderr(&listed).contains("damaged"), "{listed:?}");
    for id in ["empty", "damaged", "wrong", "good"] {
        let _ = host.oci_ok(&["delete", "--force", id]);
    }
    let _ = host.oci_ok(&["delete", "--force", "never-was"]);
    assert_eq!(host.oci_ok(&["list", "--quiet"]), "");
}
