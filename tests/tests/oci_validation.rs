//! What the runtime specification 1.2 says of a container's life and its hooks, as opencontainers/runtime-tools checks it
//! in `validation/`; the table in `docs/testing.md` says which of its programs is which test.

use std::fs;

use serde_json::{Value, json};
use tests::{Host, WAITING, wait_for};

fn stopped(host: &Host, id: &str) {
    wait_for("it has stopped", || (host.oci_state(id)["status"] == "stopped").then_some(()));
}

/// A hook that runs a script with its state on standard input.
fn hook(script: &str) -> Value {
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

/// Runtime and Lifecycle, "Create": an id is unique, a bundle there, and the configuration is read only once.
#[test]
fn create_needs_a_bundle_and_a_new_id_and_reads_the_configuration_once() {
    let Some(host) = Host::for_containers() else { return };
    assert_eq!(host.oci(&["create"]).status.code(), Some(1));
    assert_eq!(host.oci(&["create", "--bundle", "/nowhere", "one"]).status.code(), Some(1));
    let bundle = host.bundle("b", &["sh", "-c", "echo first > /said"]);
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    assert_eq!(host.oci(&["create", "--bundle", bundle.path(), "one"]).status.code(), Some(1));
    assert_eq!(host.oci_state("one")["status"], "created");
    let bundle = bundle.with(|config| config["process"]["args"] = json!(["sh", "-c", "echo second > /said"]));
    let _ = host.oci_ok(&["start", "one"]);
    stopped(&host, "one");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("said")).unwrap(), "first\n");
    let _ = host.oci_ok(&["delete", "one"]);
}

/// "Delete": only of a container that has stopped, of everything that was made for it, and of nothing else.
#[test]
fn delete_is_for_stopped_containers_and_removes_only_what_create_made() {
    let Some(host) = Host::for_containers() else { return };
    assert_eq!(host.oci(&["delete", "one"]).status.code(), Some(1));
    let shared = host.path("shared");
    fs::create_dir(&shared).unwrap();
    let group = format!("/carve-oci/{}-kept", host.path("").file_name().unwrap().to_string_lossy());
    let kept = std::path::Path::new("/sys/fs/cgroup/pids").join(&group[1..]);
    let has_pids = kept.ancestors().nth(2).is_some_and(std::path::Path::is_dir);
    if has_pids {
        fs::create_dir_all(&kept).unwrap();
    }
    let bundle = host.bundle("b", &WAITING).with(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("{group}/inner"));
        let mount = json!({"destination": "/shared", "type": "bind", "source": &shared, "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    assert_eq!(host.oci(&["delete", "one"]).status.code(), Some(1));
    let _ = host.oci_ok(&["start", "one"]);
    assert_eq!(host.oci(&["delete", "one"]).status.code(), Some(1));
    assert_eq!(host.oci_state("one")["status"], "running");
    let _ = host.oci_ok(&["exec", "one", "touch", "/shared/file"]);
    let neighbour = kept.join("neighbour");
    if has_pids {
        fs::create_dir(&neighbour).unwrap();
    }
    let _ = host.oci_ok(&["kill", "one", "KILL"]);
    stopped(&host, "one");
    let _ = host.oci_ok(&["delete", "one"]);
    assert!(shared.join("file").exists() && bundle.rootfs().join("bin").exists());
    if has_pids {
        assert!(neighbour.is_dir() && !kept.join("inner").exists());
        fs::remove_dir(&neighbour).unwrap();
        fs::remove_dir(&kept).unwrap();
    }
}

/// "Start" and "Kill": what a state does not allow is an error and has no effect; else the program gets the signal.
#[test]
fn start_and_kill_have_no_effect_in_another_state() {
    let Some(host) = Host::for_containers() else { return };
    for command in [&["start", "one"][..], &["kill", "one", "TERM"], &["state", "one"], &["start"], &["kill"]]
    {
        assert_eq!(host.oci(command).status.code(), Some(1), "{command:?}");
    }
    let bundle = host.bundle("b", &["sh", "-c", "echo >> /started"]);
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    let _ = host.oci_ok(&["start", "one"]);
    stopped(&host, "one");
    for command in [&["start", "one"][..], &["kill", "one", "TERM"], &["kill", "one", "KILL"]] {
        assert_eq!(host.oci(command).status.code(), Some(1), "{command:?}");
        assert_eq!(host.oci_state("one")["status"], "stopped", "{command:?}");
    }
    assert_eq!(fs::read_to_string(bundle.rootfs().join("started")).unwrap(), "\n");
    let _ = host.oci_ok(&["delete", "one"]);
}

/// "Kill": each signal arrives as itself, by name and by number.
#[test]
fn the_program_gets_the_signal_that_was_sent() {
    let Some(host) = Host::for_containers() else { return };
    let script = "for s in TERM INT HUP USR1 USR2 QUIT WINCH; do trap \"echo $s >> /got\" $s; done; echo > /ready; \
                  while true; do sleep 0.05; done";
    let bundle = host.bundle("b", &["sh", "-c", script]);
    host.oci_detached(&["run", "--detach", "--bundle", bundle.path(), "one"], &host.path("output"));
    wait_for("it is ready", || bundle.rootfs().join("ready").exists().then_some(()));
    let got = bundle.rootfs().join("got");
    for (signal, name) in [
        ("TERM", "TERM"),
        ("SIGINT", "INT"),
        ("1", "HUP"),
        ("USR1", "USR1"),
        ("12", "USR2"),
        ("SIGQUIT", "QUIT"),
    ] {
        let _ = host.oci_ok(&["kill", "one", signal]);
        wait_for(name, || {
            (fs::read_to_string(&got).unwrap_or_default() == format!("{name}\n")).then_some(())
        });
        fs::remove_file(&got).unwrap();
    }
    assert_eq!(host.oci(&["kill", "one", "NOSUCH"]).status.code(), Some(1));
    let _ = host.oci_ok(&["delete", "--force", "one"]);
}

/// "State": its fields, in each status; and the pid file.
#[test]
fn the_state_has_the_specifications_fields() {
    let Some(host) = Host::for_containers() else { return };
    let pid_file = host.path("pid");
    let bundle = host.bundle("b", &WAITING).with(|config| {
        config["annotations"] = json!({"org.example.colour": "blue", "empty": ""});
    });
    let pid_path = pid_file.to_str().unwrap();
    host.oci_detached(
        &["create", "--bundle", bundle.path(), "--pid-file", pid_path, "one"],
        &host.path("output"),
    );
    for status in ["created", "running"] {
        let state = host.oci_state("one");
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!("one")), "{state}");
        assert_eq!(state["ociVersion"], bundle.config["ociVersion"], "{state}");
        assert_eq!(state["bundle"], bundle.path(), "{state}");
        assert_eq!(state["annotations"], bundle.config["annotations"], "{state}");
        assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
        if status == "created" {
            let _ = host.oci_ok(&["start", "one"]);
        }
    }
    let _ = host.oci_ok(&["delete", "--force", "one"]);
}

/// "Hooks": each reads the state of its point in the life from standard input.
#[test]
fn hooks_read_the_state_of_their_moment() {
    let Some(host) = Host::for_containers() else { return };
    let kinds = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    let said = host.path("said");
    fs::create_dir(&said).unwrap();
    let bundle = host.bundle("b", &["true"]).with(|config| {
        config["annotations"] = json!({"colour": "blue"});
        config["hooks"] = json!({"startContainer": hook("cat > /startContainer")});
        for (kind, _) in kinds {
            config["hooks"][kind] = hook(&format!("cat > {}/{kind}", said.display()));
        }
    });
    host.oci_detached(&["run", "--bundle", bundle.path(), "one"], &host.path("output"));
    fs::copy(bundle.rootfs().join("startContainer"), said.join("startContainer")).unwrap();
    for (kind, status) in kinds.into_iter().chain([("startContainer", "created")]) {
        let state: Value = serde_json::from_slice(&fs::read(said.join(kind)).unwrap()).unwrap();
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!("one")), "{kind}: {state}");
        assert_eq!(state["bundle"], bundle.path(), "{kind}");
        assert_eq!(state["annotations"]["colour"], "blue", "{kind}");
        assert_eq!(state["ociVersion"], bundle.config["ociVersion"], "{kind}");
        assert_eq!(state["pid"].is_number(), kind != "poststop", "{kind}: {state}");
    }
}

/// "Lifecycle" 7 to 13: prestart hooks come before the program and end it all when they fail; poststart before `start`
/// returns and poststop after the deletion, whose failures are only told, and the hooks after them run.
#[test]
fn hooks_that_fail_matter_before_the_start_only() {
    let Some(host) = Host::for_containers() else { return };
    let log = host.path("log");
    let say = |what: &str, code: i32| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {what} >> {}; exit {code}", log.display())]});
    let bundle = host.bundle("late", &WAITING).with(|config| {
        config["hooks"] = json!({"prestart": [say("prestart", 0)], "poststart": [say("one", 1), say("two", 0)],
                                 "poststop": [say("three", 1), say("four", 0)]});
    });
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    assert_eq!(fs::read_to_string(&log).unwrap(), "prestart\n");
    let started = host.oci(&["start", "one"]);
    assert!(started.status.success(), "{started:?}");
    assert!(String::from_utf8_lossy(&started.stderr).contains("hooks.poststart[0]"), "{started:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "prestart\none\ntwo\n");
    assert_eq!(host.oci_state("one")["status"], "running");
    let _ = host.oci_ok(&["kill", "one", "KILL"]);
    stopped(&host, "one");
    let deleted = host.oci(&["delete", "one"]);
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(String::from_utf8_lossy(&deleted.stderr).contains("hooks.poststop[0]"), "{deleted:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "prestart\none\ntwo\nthree\nfour\n");

    let bundle = host.bundle("early", &["sh", "-c", "echo > /started"]).with(|config| {
        config["hooks"] = json!({"prestart": [say("fails", 1), say("never", 0)]});
    });
    assert_eq!(host.oci(&["create", "--bundle", bundle.path(), "two"]).status.code(), Some(1));
    assert!(!bundle.rootfs().join("started").exists());
    assert!(fs::read_to_string(&log).unwrap().ends_with("fails\n"));
    assert_eq!(host.oci(&["state", "two"]).status.code(), Some(1));
}

/// "Extensibility" and "Annotations": unknown properties and keys are no error; a wrong version is one.
#[test]
fn what_is_unknown_is_ignored_and_what_is_invalid_refused() {
    let Some(host) = Host::for_containers() else { return };
    let printed = host.oci_prints("echo fine", |config| {
        config["unknown"] = json!({"a": [1, 2]});
        config["process"]["unknown"] = json!("x");
        config["linux"]["unknown"] = json!(3);
        config["annotations"] = json!({"org.example.unknown": "x", "": "an empty key"});
    });
    assert_eq!(printed, "fine\n");
    assert!(host.oci_refuses(|config| config["ociVersion"] = json!("9.0.0")).contains("ociVersion"));
    assert!(host.oci_refuses(|config| config["annotations"] = json!({"a": 1})).contains("annotations"));
}
