//! Whatever is killed at whatever moment: the next command sees the truth and cleans up.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Client, Host, wait_for};

fn kill(pid: &serde_json::Value) {
    let pid = pid.as_i64().and_then(|p| Pid::from_raw(i32::try_from(p).ok()?)).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it can be killed");
}

/// A long sleep in a container of this name that runs by now.
fn sleeper(host: &Host, extra: &[&str]) -> Client {
    let args = [&["run", "--name", "victim"], extra, &["busybox", "sleep", "1000"]].concat();
    let client = host.start(&args);
    wait_for("it runs", || host.ok(&["ps"]).contains("victim").then_some(()));
    client
}

#[test]
fn a_killed_client_leaves_the_instance_running() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let client = sleeper(&host, &["--rm"]);
    drop(client);
    assert!(host.ok(&["ps"]).contains("victim"));
    let _ = host.ok(&["stop", "--time", "1", "victim"]);
    assert!(!host.ok(&["ps", "-a"]).contains("victim"));
}

#[test]
fn a_killed_monitor_takes_the_app_along_and_the_next_command_says_so() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let client = sleeper(&host, &[]);
    kill(&host.json(&["inspect", "victim"])["pids"]["monitor"]);
    let output = client.wait();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("monitor"), "{output:?}");
    let listed = host.json(&["ps", "-a", "--format", "json"]);
    assert_eq!((&listed[0]["state"], &listed[0]["error"]), (&"exited".into(), &"the monitor died".into()));
    let _ = host.ok(&["rm", "victim"]);
}

#[test]
fn everything_killed_at_once_is_cleaned_up_by_the_next_command() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let client = sleeper(&host, &["--rm", "-p", "127.0.0.1:18081:80"]);
    let pids = host.json(&["inspect", "victim"])["pids"].clone();
    client.signal(Signal::KILL);
    kill(&pids["monitor"]);
    kill(&pids["init"]);
    drop(client);
    // Killing takes a moment.
    wait_for("nothing is left", || host.ok(&["ps", "-aq"]).is_empty().then_some(()));
}

#[test]
fn a_client_and_monitor_killed_at_any_moment_of_the_start_leave_nothing() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    for delay_ms in (0..40).step_by(2) {
        let client = host.start(&["run", "--rm", "--name", "victim", "busybox", "sleep", "1000"]);
        std::thread::sleep(Duration::from_millis(delay_ms));
        client.signal(Signal::KILL);
        drop(client);
        let listed = host.json(&["ps", "-a", "--format", "json"]);
        if listed.as_array().is_some_and(|l| !l.is_empty()) {
            let _ = host.run(&["rm", "--force", "victim"]);
        }
        wait_for("nothing is left", || (host.ok(&["ps", "-aq"]).is_empty()).then_some(()));
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let Some(host) = Host::for_containers() else { return };
    let small = host.path("root");
    std::fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mounted.success());
    let base = tests::workspace().join("target/images/demo/base.tar");
    let error = host.fails(125, &["image", "import", "--name", "busybox", base.to_str().unwrap()]);
    assert!(error.contains("No space left"), "{error}");
    let mut files = walk(&small);
    files.retain(|name| !name.ends_with(".lock") && !name.starts_with("carve.db"));
    files.sort();
    assert_eq!(files, ["index.json", "oci-layout"]);
    let unmounted = std::process::Command::new("umount").arg(&small).status().unwrap();
    assert!(unmounted.success());
}

#[expect(clippy::unwrap_used, reason = "a test's own files")]
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}
