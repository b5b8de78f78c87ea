//! `carve oci` and control groups: limits, update, events, pause, ps, and what becomes of groups.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tests::{Host, OciBundle, skip, wait_for};

/// The container's group in the v1 tree of a controller, if the host has one.
fn v1_group(bundle: &OciBundle, controller: &str) -> Option<PathBuf> {
    let tree = Path::new("/sys/fs/cgroup").join(controller);
    if !tree.join("cgroup.procs").exists() {
        skip(&format!("this host has no v1 tree of {controller}"));
        return None;
    }
    Some(tree.join(bundle.config["linux"]["cgroupsPath"].as_str()?.trim_start_matches('/')))
}

fn start(host: &Host, bundle: &OciBundle, id: &str) {
    host.oci_detached(&["create", "--bundle", bundle.path(), id], &host.path("output"));
    let _ = host.oci_ok(&["start", id]);
}

fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn a_paused_container_stands_still_and_can_be_resumed_killed_and_deleted() {
    let Some(host) = Host::for_containers() else { return };
    let script = "i=0; while true; do i=$((i+1)); echo $i > /tmp/count; done";
    let bundle = host.bundle("b", &["sh", "-c", script]);
    let count = bundle.rootfs().join("tmp/count");
    let text = || fs::read_to_string(&count).unwrap_or_default();
    start(&host, &bundle, "one");
    wait_for("it counts", || (!text().is_empty()).then_some(()));
    assert!(host.oci_fails(&["resume", "one"]).contains("it is running"));

    let _ = host.oci_ok(&["pause", "one"]);
    assert_eq!(host.oci_state("one")["status"], "paused");
    let before = text();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(text(), before, "it goes on while it is paused");
    assert!(host.oci_fails(&["pause", "one"]).contains("it is paused"));
    assert!(host.oci_fails(&["start", "one"]).contains("it is paused"));
    let _ = host.oci_ok(&["resume", "one"]);
    wait_for("it goes on", || (text() != before).then_some(()));

    let _ = host.oci_ok(&["pause", "one"]);
    let _ = host.oci_ok(&["kill", "one", "KILL"]);
    wait_for("it has ended", || (host.oci_state("one")["status"] == "stopped").then_some(()));
    let _ = host.oci_ok(&["delete", "one"]);

    start(&host, &bundle, "two");
    let _ = host.oci_ok(&["pause", "two"]);
    assert!(host.oci_fails(&["delete", "two"]).contains("it is paused"));
    let _ = host.oci_ok(&["delete", "--force", "two"]);
}

#[test]
fn one_that_was_created_and_paused_waits_to_be_resumed() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sleep", "1000"]);
    host.oci_detached(&["create", "--bundle", bundle.path(), "one"], &host.path("output"));
    let _ = host.oci_ok(&["pause", "one"]);
    assert_eq!(host.oci_state("one")["status"], "paused");
    assert!(host.oci_fails(&["start", "one"]).contains("it is paused"));
    let _ = host.oci_ok(&["resume", "one"]);
    assert_eq!(host.oci_state("one")["status"], "created");
    let _ = host.oci_ok(&["delete", "--force", "one"]);
}

#[test]
fn update_changes_what_is_named_and_nothing_else() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sleep", "1000"]).with(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 64 << 20});
        config["linux"]["resources"]["cpu"] = json!({"shares": 512});
    });
    let Some(memory) = v1_group(&bundle, "memory") else { return };
    start(&host, &bundle, "one");
    let group = |controller| v1_group(&bundle, controller).unwrap();
    // More than the present limit on memory and swap, so that the order of the two matters.
    let _ = host.oci_ok(&["update", "--memory", "128m", "--memory-swap", "256m", "one"]);
    assert_eq!(read(&memory, "memory.limit_in_bytes"), (128 << 20).to_string());
    assert_eq!(read(&memory, "memory.memsw.limit_in_bytes"), (256 << 20).to_string());
    assert_eq!(read(&group("cpu"), "cpu.shares"), "512");
    let _ = host.oci_ok(&["update", "--memory", "32m", "--memory-swap", "32m", "--pids-limit", "7", "one"]);
    assert_eq!(read(&memory, "memory.memsw.limit_in_bytes"), (32 << 20).to_string());
    assert_eq!(read(&group("pids"), "pids.max"), "7");

    // A tree that the container did without so far, and limits from a file.
    let file = host.path("limits.json");
    fs::write(&file, r#"{"cpu": {"cpus": "0", "shares": 99}}"#).unwrap();
    let _ = host.oci_ok(&["update", "--resources", file.to_str().unwrap(), "--cpu-quota=50000", "one"]);
    let pid = host.oci_state("one")["pid"].to_string();
    assert_eq!(read(&group("cpuset"), "cpuset.cpus"), "0");
    assert_eq!(read(&group("cpuset"), "cgroup.procs"), pid);
    assert_eq!(read(&group("cpu"), "cpu.shares"), "99");
    assert_eq!(read(&group("cpu"), "cpu.cfs_quota_us"), "50000");
    let allowed = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(allowed.contains("Cpus_allowed_list:\t0\n"), "{allowed}");

    // The new rules take the place of the old ones.
    assert!(!read(&group("devices"), "devices.list").contains("b 7:0"));
    fs::write(
        &file,
        r#"{"devices": [{"allow": false}, {"allow": true, "type": "b", "major": 7, "minor": 0}]}"#,
    )
    .unwrap();
    let _ = host.oci_ok(&["update", "-r", file.to_str().unwrap(), "one"]);
    assert!(read(&group("devices"), "devices.list").contains("b 7:0 rwm"));

    let refused = host.oci_fails(&["update", "--memory", "64m", "--memory-swap", "1m", "one"]);
    assert!(refused.contains("memory.swap"), "{refused}");
    assert!(host.oci_fails(&["update", "--l3-cache-schema", "x", "one"]).contains("intelRdt"));
    let _ = host.oci_ok(&["delete", "--force", "one"]);
}

#[test]
fn stats_are_in_the_shape_of_runcs() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sleep", "1000"]);
    let Some(_) = v1_group(&bundle, "memory") else { return };
    start(&host, &bundle, "one");
    let stats: Value = serde_json::from_str(&host.oci_ok(&["events", "--stats", "one"])).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!("one")));
    let data = &stats["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{stats}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(data["memory"]["raw"]["total_rss"].is_u64(), "{stats}");
    assert_eq!(data["pids"]["current"], 1, "{stats}");
    assert!(data["blkio"].is_object() && data["hugetlb"].is_object(), "{stats}");
    let counts_waiting = fs::read_to_string("/proc/pressure/memory").is_ok_and(|text| !text.is_empty());
    if counts_waiting && Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        assert!(data["memory"]["psi"]["full"]["avg300"].is_f64(), "{stats}");
    }
    let _ = host.oci_ok(&["delete", "--force", "one"]);
    assert!(host.oci_fails(&["events", "--stats", "one"]).contains("does not exist"));
}

#[test]
fn events_tell_of_a_lack_of_memory_and_end_with_the_container() {
    let Some(host) = Host::for_containers() else { return };
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; x=$(head -c 64000000 /dev/zero | tr '\\0' x)";
    let bundle = host.bundle("b", &["sh", "-c", &script.replace("tr ", "busybox tr ")]).with(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let Some(_) = v1_group(&bundle, "memory") else { return };
    start(&host, &bundle, "one");
    let mut events =
        host.oci_command(&["events", "--interval", "60s", "one"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"type\":\"stats\""));
    fs::write(bundle.rootfs().join("tmp/go"), "").unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(events.wait().unwrap().success());
    assert_eq!(rest.first().map(String::as_str), Some(r#"{"type":"oom","id":"one"}"#), "{rest:?}");
    let _ = host.oci_ok(&["delete", "one"]);
}

#[test]
fn ps_shows_the_containers_processes_and_no_others() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["sh", "-c", "sleep 1234 & sleep 1000; true"]);
    start(&host, &bundle, "one");
    let pids = wait_for("three processes", || {
        let pids: Vec<i32> = serde_json::from_str(&host.oci_ok(&["ps", "--format", "json", "one"])).unwrap();
        (pids.len() == 3).then_some(pids)
    });
    assert!(pids.contains(&i32::try_from(host.oci_state("one")["pid"].as_i64().unwrap()).unwrap()));
    let table = host.oci_ok(&["ps", "one", "-o", "pid,args", "-e"]);
    assert!(table.contains("sleep 1234") && table.lines().count() == 4, "{table}");
    let _ = host.oci_ok(&["delete", "--force", "one"]);
}

/// Without a pid namespace of its own, nothing but the group knows which processes are the container's.
#[test]
fn no_fork_outruns_a_signal_to_all() {
    let Some(host) = Host::for_containers() else { return };
    let script = "f() { (f) & (f) & sleep 1000; }; f";
    let bundle = host.bundle("b", &["sh", "-c", script]).with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        config["linux"]["resources"]["pids"] = json!({"limit": 200});
    });
    start(&host, &bundle, "one");
    let pids = || serde_json::from_str::<Vec<i32>>(&host.oci_ok(&["ps", "-f", "json", "one"])).unwrap();
    wait_for("many processes", || (pids().len() > 50).then_some(()));
    let _ = host.oci_ok(&["kill", "--all", "one", "KILL"]);
    wait_for("none is left", || pids().is_empty().then_some(()));
    let _ = host.oci_ok(&["delete", "one"]);
}

#[test]
fn groups_of_others_are_not_taken_and_their_parents_stay() {
    let Some(host) = Host::for_containers() else { return };
    let own = host.path("").file_name().unwrap().to_string_lossy().into_owned();
    let parent = format!("/others-{own}");
    let bundle = host.bundle("b", &["sleep", "1000"]);
    let Some(_) = v1_group(&bundle, "memory") else { return };
    let bundle = bundle.with(|config| config["linux"]["cgroupsPath"] = json!(format!("{parent}/pod/one")));
    let dir = |tree: &str| Path::new("/sys/fs/cgroup").join(tree).join(&parent[1..]);
    fs::create_dir(dir("memory")).unwrap();
    start(&host, &bundle, "one");
    assert!(dir("memory").join("pod/one").is_dir());
    // A second container in the same group is refused, and the first one lives on.
    let refused = host.oci_fails(&["create", "--bundle", bundle.path(), "two"]);
    assert!(refused.contains("has 1 processes in it"), "{refused}");
    assert_eq!(host.oci_state("one")["status"], "running");
    assert!(host.oci_fails(&["state", "two"]).contains("does not exist"));
    let _ = host.oci_ok(&["delete", "--force", "one"]);
    assert!(
        dir("memory").is_dir() && !dir("memory").join("pod").exists(),
        "what was there stays, the rest goes"
    );
    // In other trees the parent is kept too: one number says how many of them are whose.
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok) {
        let _not_there = fs::remove_dir(tree.path().join(&parent[1..]));
    }
}

#[test]
fn what_systemd_would_have_to_make_is_refused() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = host.bundle("b", &["true"]).with(|config| {
        config["linux"]["cgroupsPath"] = json!("machine.slice:libpod:one");
    });
    for args in [&["run", "--bundle", bundle.path(), "one"][..], &["--systemd-cgroup", "list"]] {
        let refused = host.oci_fails(args);
        assert!(refused.contains("cgroupfs"), "{refused}");
    }
    assert_eq!(host.oci_ok(&["list", "--quiet"]), "");
}

#[test]
fn a_limit_that_cannot_be_had_is_named_and_leaves_nothing() {
    let Some(host) = Host::for_containers() else { return };
    for (resources, words) in [
        (json!({"rdma": {"mlx5_9": {"hcaHandles": 1}}}), "rdma"),
        (json!({"unified": {"../../x.y": "1"}}), "unified"),
        (json!({"unified": {"cgroup.procs": "0"}}), "cgroup.procs"),
        (json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}), "hugepageLimits[0].pageSize"),
        (json!({"memory": {"limit": 4096, "swap": 1}}), "memory.swap"),
        (json!({"cpu": {"cpus": "77777"}}), "cpuset.cpus"),
        (json!({"blockIO": {"weight": 5}}), "blockIO.weight"),
    ] {
        let bundle = host.bundle("b", &["true"]).with(|config| config["linux"]["resources"] = resources);
        let refused = host.oci_fails(&["run", "--bundle", bundle.path(), "one"]);
        assert!(refused.contains(words), "{words}: {refused}");
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
    assert_eq!(host.oci_ok(&["list", "--quiet"]), "");
}
