//! `carve oci` commands killed at each of their system calls that change something: the next commands see the truth, and
//! what is left can be removed.
//!
//! A command is run once under strace(1), which tells its calls; then once for each of them, to be killed just before it.

#![expect(clippy::print_stdout, reason = "how often a command was killed is part of the output")]

use std::fs;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tests::{Census, Host, OciBundle, skip, wait_for};

/// Between two of these, nothing changes that another command could see.
const CALLS: &str = "bind,clone3,connect,exit_group,flock,kill,listen,mkdir,pidfd_send_signal,poll,recvfrom,renameat,\
                     rmdir,sendto,unlinkat,waitid,write";

/// A place with strace, and the bundle of a container that sleeps in a cgroup whose parents are made for it.
fn place() -> Option<(Host, OciBundle)> {
    let host = Host::for_containers()?;
    if std::process::Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("strace is not there");
        return None;
    }
    let bundle = host.bundle("b", &["sh", "-c", "echo > /started; exec sleep 1000"]).with(|config| {
        let path = config["linux"]["cgroupsPath"].as_str().expect("it is set").replace("/carve-oci", "");
        config["linux"]["cgroupsPath"] = json!(format!("{path}/of/its/own"));
    });
    Some((host, bundle))
}

/// `carve oci ARGS…` under strace with these options.
fn traced(host: &Host, options: &[&str], args: &[&str]) -> Output {
    let command = host.oci_command(args);
    let mut strace = std::process::Command::new("strace");
    strace.args(options).args(["-o", host.path("trace").to_str().expect("UTF-8")]);
    strace.arg(command.get_program()).args(command.get_args());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    strace.output().expect("strace runs")
}

/// The calls of a command in their order: a name, and the how manieth of that name it is.
fn calls(host: &Host, args: &[&str]) -> Vec<(String, usize)> {
    let output = traced(host, &["-e", &format!("trace={CALLS}")], args);
    let trace = fs::read_to_string(host.path("trace")).expect("strace has written it");
    assert!(output.status.success(), "{args:?}: {trace}");
    let mut seen = std::collections::HashMap::new();
    let names = trace.lines().filter_map(|line| Some(line.split_once('(')?.0)).filter(|n| CALLS.contains(*n));
    let calls: Vec<_> = names
        .map(|name| {
            let count = seen.entry(name.to_owned()).or_insert(0);
            *count += 1;
            (name.to_owned(), *count)
        })
        .collect();
    assert!(calls.len() > 3, "{trace}");
    calls
}

/// Runs the command, and kills it just before that call.
fn killed_before(host: &Host, (name, nth): &(String, usize), args: &[&str]) {
    let inject = format!("inject={name}:signal=KILL:when={nth}");
    let _ = traced(host, &["-e", &format!("trace={name}"), "-e", &inject], args);
}

/// What `list` says of the container, once no killed command's hooks or init are at work any more.
fn settled(host: &Host) -> Option<String> {
    wait_for("what was killed is known to be over", || {
        let output = host.oci(&["list", "--format", "json"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let statuses: Vec<_> =
            listed.as_array()?.iter().filter_map(|state| state["status"].as_str()).collect();
        assert!(statuses.len() <= 1, "{listed}");
        // Its init may live for a moment longer than its creator.
        (statuses != ["creating"]).then(|| statuses.first().map(|status| (*status).to_owned()))
    })
}

/// Removes all, and compares with what there was.
fn clean_up(host: &Host, bundle: &OciBundle, before: &Census, when: &str) {
    let _ = host.oci_ok(&["delete", "--force", "one"]);
    let _ = fs::remove_file(bundle.rootfs().join("started"));
    let mut left = Vec::new();
    for _ in 0..100 {
        left = Census::take(&host.path("")).beyond(before);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{when}: left behind: {left:#?}");
}

/// That a container is what it is said to be: one that is created can be started, one that has stopped not.
fn prove(host: &Host, bundle: &OciBundle, status: Option<&str>, when: &str) {
    let start = || host.oci(&["start", "one"]);
    let started = || bundle.rootfs().join("started").exists();
    match status {
        Some("created") => {
            // Whether by this or because it was ordered to before, which it may not have carried out yet.
            let _ = start();
            wait_for("its program runs or never will", || {
                (started() || settled(host).as_deref() == Some("stopped")).then_some(())
            });
        }
        Some("running") => wait_for("its program runs", || started().then_some(())),
        Some("stopped") => {
            assert!(!start().status.success(), "{when}");
            let _ = host.oci_ok(&["delete", "one"]);
        }
        None => assert!(!start().status.success(), "{when}"),
        Some(other) => panic!("{when}: it is {other}"),
    }
}

/// Kills the command that `args` are at each of its calls, each time after `before` were carried out.
fn kill_at_each_call(before: &[&[&str]], args: &[&str]) {
    let Some((host, bundle)) = place() else { return };
    let args: Vec<_> = args.iter().map(|arg| if *arg == "BUNDLE" { bundle.path() } else { *arg }).collect();
    let census = Census::take(&host.path(""));
    let prepare = || {
        for command in before {
            let command: Vec<_> =
                command.iter().map(|arg| if *arg == "BUNDLE" { bundle.path() } else { *arg }).collect();
            host.oci_detached(&command, &host.path("output"));
        }
    };
    prepare();
    let calls = calls(&host, &args);
    clean_up(&host, &bundle, &census, "nothing was killed");
    println!("{args:?}: killed {} times", calls.len());
    for call in calls {
        let when = format!("{args:?} killed before {call:?}");
        prepare();
        killed_before(&host, &call, &args);
        prove(&host, &bundle, settled(&host).as_deref(), &when);
        clean_up(&host, &bundle, &census, &when);
    }
}

const CREATE: &[&str] = &["create", "--bundle", "BUNDLE", "one"];

#[test]
fn a_create_that_is_killed_leaves_a_container_or_what_can_be_deleted() {
    kill_at_each_call(&[], CREATE);
}

#[test]
fn a_run_that_is_killed_leaves_a_container_or_what_can_be_deleted() {
    kill_at_each_call(&[], &["run", "--detach", "--bundle", "BUNDLE", "one"]);
}

#[test]
fn a_start_that_is_killed_has_started_it_or_can_be_repeated() {
    kill_at_each_call(&[CREATE], &["start", "one"]);
}

#[test]
fn a_delete_that_is_killed_can_be_repeated() {
    kill_at_each_call(&[CREATE], &["delete", "--force", "one"]);
    kill_at_each_call(&[CREATE, &["start", "one"]], &["delete", "--force", "one"]);
}

#[test]
fn a_kill_that_is_killed_has_killed_it_or_can_be_repeated() {
    kill_at_each_call(&[CREATE], &["kill", "one", "KILL"]);
}
