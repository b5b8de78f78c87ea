//! Limits that hold, statistics that are right, groups that go away.

use std::path::Path;
use std::process::{Child, Command};

use container::cgroup::{Cgroup, Hierarchy};
use container::oci::LinuxResources;
use rustix::process::Pid;
use serde_json::json;

use crate::harness::{Bundle, Case, cgroup_parent};

pub(crate) const CASES: &[Case] = &[
    ("a_memory_limit_kills_what_exceeds_it", a_memory_limit_kills_what_exceeds_it),
    ("one_mebibyte_is_enough_to_start", one_mebibyte_is_enough_to_start),
    ("a_pids_limit_stops_forks", a_pids_limit_stops_forks),
    ("a_cpu_quota_slows_down", a_cpu_quota_slows_down),
    ("devices_are_forbidden_but_for_the_usual_ones", devices_are_forbidden_but_for_the_usual_ones),
    ("device_rules_hold_on_the_v2_tree", device_rules_hold_on_the_v2_tree),
    ("the_container_sees_only_its_own_group", the_container_sees_only_its_own_group),
    ("any_process_can_be_put_into_a_group", any_process_can_be_put_into_a_group),
    ("removing_kills_what_is_left", removing_kills_what_is_left),
    ("every_kind_of_limit_reaches_its_file", every_kind_of_limit_reaches_its_file),
    ("what_this_host_lacks_is_named", what_this_host_lacks_is_named),
    ("a_group_in_use_is_refused_and_lives_on", a_group_in_use_is_refused_and_lives_on),
];

fn has(controller: &str) -> bool {
    let there = Hierarchy::detect(Path::new("/")).unwrap().has_controller(controller);
    if !there {
        println!("(skipped: this host has no {controller} controller)");
    }
    there
}

fn a_memory_limit_kills_what_exceeds_it() {
    if !has("memory") {
        return;
    }
    let script = "x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | busybox tr '\\0' x); echo survived";
    let bundle = Bundle::script(script).with(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let output = tempfile::tempfile().unwrap();
    let mut container = bundle.create(&output).unwrap();
    container.start().unwrap();
    let status = container.wait().unwrap();
    let stats = container.cgroup().stats().unwrap();
    container.delete().unwrap();
    assert_eq!(status.code(), 128 + 9, "{status:?}");
    assert_eq!(stats.oom_kills, Some(1), "{stats:?}");
    assert!(stats.memory.unwrap().peak_bytes.unwrap() <= 16 << 20, "{stats:?}");
}

fn one_mebibyte_is_enough_to_start() {
    if !has("memory") {
        return;
    }
    let bundle = Bundle::new(&["true"])
        .with(|config| config["linux"]["resources"]["memory"] = json!({"limit": 1 << 20}));
    bundle.output();
}

fn a_pids_limit_stops_forks() {
    if !has("pids") {
        return;
    }
    let bundle = Bundle::script("for i in 1 2 3 4 5 6; do sleep 5 & done; echo unlimited")
        .with(|config| config["linux"]["resources"]["pids"] = json!({"limit": 4}));
    let ended = bundle.run();
    assert!(ended.output.contains("fork") && !ended.output.contains("unlimited"), "{ended:?}");
}

fn a_cpu_quota_slows_down() {
    if !has("cpu") {
        return;
    }
    let bundle = Bundle::script("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
        .with(|config| config["linux"]["resources"]["cpu"] = json!({"quota": 10_000, "period": 100_000}));
    let output = tempfile::tempfile().unwrap();
    let mut container = bundle.create(&output).unwrap();
    let begun = std::time::Instant::now();
    container.start().unwrap();
    container.wait().unwrap();
    let (elapsed, stats) = (begun.elapsed(), container.cgroup().stats().unwrap());
    container.delete().unwrap();
    let used_ns = stats.cpu_usage_ns.unwrap();
    let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap();
    // A tenth, with room for the first period and for what was used before the start.
    assert!(used_ns < elapsed_ns / 5 + 30_000_000, "used {used_ns} ns in {elapsed_ns} ns");
    assert!(used_ns > 10_000_000, "used {used_ns} ns");
}

fn devices_are_forbidden_but_for_the_usual_ones() {
    let script =
        "mknod /tmp/loop b 7 0 && cat /tmp/loop; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo fine";
    let ended = Bundle::script(script).run();
    assert!(ended.output.contains("'/tmp/loop': Operation not permitted"), "{ended:?}");
    assert!(ended.output.ends_with("fine\n"), "{ended:?}");
}

fn device_rules_hold_on_the_v2_tree() {
    let Some(v2) = Hierarchy::detect(Path::new("/")).unwrap().v2 else {
        println!("(skipped: this host has no v2 tree)");
        return;
    };
    let hierarchy = Hierarchy { v1: Vec::new(), v2: Some(v2) };
    let rules = json!({"devices": [{"allow": false, "access": "rwm"},
                                   {"allow": false, "type": "c", "major": 1, "minor": 5, "access": "w"}]});
    let resources: LinuxResources = serde_json::from_value(rules).unwrap();
    let group = Cgroup::create(&hierarchy, &cgroup_parent().join("devices"), &resources).unwrap();
    let tried = |command: &str| {
        let script = format!("echo $$ > {}/cgroup.procs; {command}", group_dir(&hierarchy));
        let status = Command::new("/bin/busybox").args(["sh", "-c", &script]).status();
        status.unwrap().success()
    };
    let results = [
        tried("exec 3< /dev/null 2> /dev/null"),
        tried("exec 3< /dev/zero"),
        tried("exec 2> /dev/null; exec 3> /dev/zero"),
        tried("exec 2> /dev/null; exec 3< /dev/mem"),
    ];
    group.remove().unwrap();
    assert_eq!(results, [true, true, false, false]);
}

fn group_dir(hierarchy: &Hierarchy) -> String {
    let dir = hierarchy.v2.as_ref().unwrap().dir.join(cgroup_parent().strip_prefix("/").unwrap());
    dir.join("devices").display().to_string()
}

fn the_container_sees_only_its_own_group() {
    let script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; busybox mkdir /sys/fs/cgroup/memory/x; \
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max";
    let bundle = Bundle::script(script)
        .with(|config| config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20}));
    if !has("memory") {
        return;
    }
    let output = bundle.run().output;
    assert!(!output.contains("carve"), "{output}");
    assert!(output.contains(&(64 << 20).to_string()), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
}

fn sleeper() -> Child {
    Command::new("/bin/busybox").args(["sleep", "60"]).spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn any_process_can_be_put_into_a_group() {
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    let path = cgroup_parent().join("anything");
    let limits: LinuxResources = serde_json::from_value(json!({"memory": {"limit": 64 << 20}})).unwrap();
    let group = Cgroup::create(&hierarchy, &path, &limits).unwrap();
    let mut child = sleeper();
    group.add(pid(&child)).unwrap();
    let stats = group.stats().unwrap();
    Cgroup::open(&hierarchy, &path).unwrap().kill_all().unwrap();
    let status = child.wait().unwrap();
    group.remove().unwrap();
    assert_eq!(stats.pids, Some(1), "{stats:?}");
    assert!(!status.success());
    assert!(Cgroup::open(&hierarchy, &path).unwrap().is_empty());
}

fn removing_kills_what_is_left() {
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    let path = cgroup_parent().join("left");
    let group = Cgroup::create(&hierarchy, &path, &LinuxResources::default()).unwrap();
    let mut child = sleeper();
    group.add(pid(&child)).unwrap();
    // A group below, as a container may make one.
    let below = Cgroup::create(&hierarchy, &path.join("below"), &LinuxResources::default()).unwrap();
    let mut other = sleeper();
    below.add(pid(&other)).unwrap();
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!other.wait().unwrap().success());
}

/// A disk's numbers, as the kernel names them.
fn disk() -> Option<String> {
    let mut disks: Vec<_> =
        std::fs::read_dir("/sys/block").ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    disks.sort();
    Some(std::fs::read_to_string(disks.first()?.join("dev")).ok()?.trim().to_owned())
}

fn every_kind_of_limit_reaches_its_file() {
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    let path = cgroup_parent().join("all");
    let read = |controller: &str, file: &str| {
        let tree = hierarchy.v1.iter().find(|tree| tree.controllers.iter().any(|c| c == controller));
        let root = tree.map(|tree| &tree.dir).or(hierarchy.v2.as_ref().map(|tree| &tree.dir)).unwrap();
        let file = root.join(path.strip_prefix("/").unwrap()).join(file);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let mut tried = 0;
    let disk = disk();
    let device: Vec<u32> = disk.iter().flat_map(|d| d.split(':')).map(|n| n.parse().unwrap()).collect();
    let throttle = json!([{"major": device.first(), "minor": device.get(1), "rate": 4096}]);
    let v1 =
        |controller: &str| hierarchy.v1.iter().any(|tree| tree.controllers.iter().any(|c| c == controller));
    let cases = [
        (
            "memory",
            json!({"memory": {"limit": 1 << 24, "swap": 1 << 25}}),
            "memory.memsw.limit_in_bytes",
            "33554432",
        ),
        ("memory", json!({"memory": {"reservation": 1 << 20}}), "memory.soft_limit_in_bytes", "1048576"),
        ("memory", json!({"memory": {"swappiness": 7}}), "memory.swappiness", "7"),
        ("memory", json!({"memory": {"disableOOMKiller": true}}), "memory.oom_control", "oom_kill_disable 1"),
        ("memory", json!({"memory": {"kernelTCP": 1 << 20}}), "memory.kmem.tcp.limit_in_bytes", "1048576"),
        ("cpu", json!({"cpu": {"shares": 512}}), "cpu.shares", "512"),
        ("cpu", json!({"cpu": {"quota": 20000, "period": 50000}}), "cpu.cfs_period_us", "50000"),
        (
            "cpu",
            json!({"cpu": {"quota": 20000, "period": 50000, "burst": 10000}}),
            "cpu.cfs_burst_us",
            "10000",
        ),
        ("cpu", json!({"cpu": {"idle": 1}}), "cpu.idle", "1"),
        ("cpuset", json!({"cpu": {"cpus": "0", "mems": "0"}}), "cpuset.cpus", "0"),
        ("pids", json!({"pids": {"limit": 9}}), "pids.max", "9"),
        (
            "blkio",
            json!({"blockIO": {"throttleWriteBpsDevice": throttle}}),
            "blkio.throttle.write_bps_device",
            "4096",
        ),
        (
            "hugetlb",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 21}]}),
            "hugetlb.2MB.max",
            "2097152",
        ),
        ("hugetlb", json!({"unified": {"hugetlb.2MB.max": "4194304"}}), "hugetlb.2MB.max", "4194304"),
    ];
    for (controller, resources, file, expected) in cases {
        let there = v1(controller) || (controller == "hugetlb" && hierarchy.has_controller(controller));
        if !there || (controller == "blkio" && disk.is_none()) {
            println!("(skipped {file}: this host has no {controller} in a v1 tree)");
            continue;
        }
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        let group = Cgroup::create(&hierarchy, &path, &resources).unwrap();
        let value = read(controller, file);
        group.remove().unwrap();
        assert!(value.contains(expected), "{file}: {value}");
        tried += 1;
    }
    assert!(tried > 0, "no controller was found");
}

fn what_this_host_lacks_is_named() {
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    let path = cgroup_parent().join("lacking");
    let cases = [
        ("rdma", json!({"rdma": {"mlx5_0": {"hcaHandles": 1}}}), "rdma.mlx5_0"),
        ("net_cls", json!({"network": {"classID": 1}}), "network.classID"),
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}), "hugepageLimits[0]"),
    ];
    for (controller, resources, field) in cases {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        if controller != "hugetlb" && hierarchy.has_controller(controller) {
            continue;
        }
        let error = Cgroup::create(&hierarchy, &path, &resources).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(controller), "{error}");
    }
}

fn a_group_in_use_is_refused_and_lives_on() {
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    let path = cgroup_parent().join("used");
    let group = Cgroup::create(&hierarchy, &path, &LinuxResources::default()).unwrap();
    let mut child = sleeper();
    group.add(pid(&child)).unwrap();
    let error = Cgroup::create(&hierarchy, &path, &LinuxResources::default()).unwrap_err().to_string();
    let lives = child.try_wait().unwrap().is_none();
    group.remove().unwrap();
    child.wait().unwrap();
    assert!(lives && error.contains("1 processes"), "{error}");
}
