//! `carve run IMAGE`: the image as a container.

use std::{net::SocketAddr, time::Duration};

use rustix::process::Signal;
use tests::{Host, http_get, wait_for};

const PORT: u16 = 18080;

fn busybox() -> Option<Host> {
    let host = Host::for_containers()?;
    host.import_busybox();
    Some(host)
}

fn sh(host: &Host, script: &str) -> std::process::Output {
    host.run(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])
}

#[test]
fn passes_output_and_exit_code_through() {
    let Some(host) = busybox() else { return };
    let output = sh(&host, "echo out; echo err >&2; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn passes_much_output_through_whole() {
    let Some(host) = busybox() else { return };
    let output = sh(&host, "yes 0123456789abcde | head -c 20000000");
    assert_eq!(output.stdout.len(), 20_000_000);
    assert!(output.stdout.chunks(16).all(|line| line == b"0123456789abcde\n"));
}

#[test]
fn answers_with_dockers_exit_codes() {
    let Some(host) = busybox() else { return };
    let run = |command: &[&'static str]| [&["run", "--network", "none", "busybox"], command].concat();
    assert!(host.fails(127, &run(&["no-such-program"])).contains("no-such-program"));
    assert!(host.fails(126, &run(&["/etc/passwd"])).contains("/etc/passwd"));
    assert!(host.fails(125, &["run", "no-such-image"]).contains("no-such-image"));
    assert!(host.fails(125, &["run", "--memory", "lots", "busybox"]).contains("lots"));
    assert!(host.fails(125, &["run", "--name", "../x", "busybox"]).contains("../x"));
    assert!(
        host.fails(125, &["run", "--user", "nobody-here", "--network", "none", "busybox"])
            .contains("nobody-here")
    );
}

#[test]
fn the_app_sees_its_own_box() {
    let Some(host) = busybox() else { return };
    let output = host.ok(&[
        "run", "--rm", "--network", "none", "--name", "box-1", "-e", "GREETING=hello", "-w", "/tmp/new", "--user", "1000:1001",
        "busybox", "sh", "-c",
        "hostname; echo $$; echo $GREETING; pwd; id -u; id -g; ls /sys/class/net; grep -c . /proc/mounts > /dev/null && echo mounts; \
         grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status",
    ]);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(&lines[..8], ["box-1", "1", "hello", "/tmp/new", "1000", "1001", "lo", "mounts"]);
    assert_eq!(lines[8], "NoNewPrivs:\t1");
    assert_eq!(lines[9], "Seccomp:\t2");
    assert_eq!(lines[10], "CapEff:\t0000000000000000");
}

#[test]
fn writes_stay_in_the_read_write_layer() {
    let Some(host) = busybox() else { return };
    let run = |name: &str, script: &str| {
        host.ok(&["run", "--network", "none", "--name", name, "busybox", "sh", "-c", script])
    };
    let _ = run("writer", "echo changed > /etc/os-release; rm /etc/group; echo new > /new");
    let seen = run("reader", "cat /etc/os-release; ls /etc/group; ls / | grep -c new || true");
    assert!(!seen.contains("changed") && seen.contains("/etc/group") && seen.ends_with("0\n"), "{seen}");
    assert!(host.root().join("instances").read_dir().unwrap().count() == 2);
    let _ = host.ok(&["rm", "writer", "reader"]);
}

#[test]
fn limits_hold() {
    let Some(host) = busybox() else { return };
    let _ = host.fails(
        137,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "--memory",
            "16m",
            "busybox",
            "sh",
            "-c",
            "exec tail /dev/zero",
        ],
    );
    let files = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max";
    let read = format!("cat {files} 2>/dev/null; true");
    let quota = ["run", "--rm", "--network", "none", "--cpus", "0.25", "busybox", "sh", "-c", &read];
    assert_eq!(host.ok(&quota).split_whitespace().next(), Some("25000"));
}

#[test]
fn ctrl_c_ends_an_app_that_does_not_care_for_it() {
    let Some(host) = busybox() else { return };
    let client =
        host.start(&["run", "--rm", "--network", "none", "--name", "sleeper", "busybox", "sleep", "1000"]);
    wait_for("it runs", || host.ok(&["ps"]).contains("sleeper").then_some(()));
    client.signal(Signal::INT);
    assert_eq!(client.wait().status.code(), Some(130));
}

#[test]
fn an_app_may_handle_signals_itself() {
    let Some(host) = busybox() else { return };
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let client =
        host.start(&["run", "--rm", "--network", "none", "--name", "trapper", "busybox", "sh", "-c", script]);
    wait_for("it runs", || host.ok(&["ps"]).contains("trapper").then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    client.signal(Signal::TERM);
    let output = client.wait();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"ready\ncaught\n".as_slice()));
}

#[test]
fn stop_and_rm_work_on_running_and_ended_instances() {
    let Some(host) = busybox() else { return };
    let client = host.start(&["run", "--network", "none", "--name", "web", "busybox", "sleep", "1000"]);
    wait_for("it runs", || host.ok(&["ps"]).contains("web").then_some(()));
    assert!(host.fails(125, &["rm", "web"]).contains("carve stop"));
    assert!(host.fails(125, &["run", "--name", "web", "busybox"]).contains("taken"));
    assert_eq!(host.ok(&["stop", "web"]), "web\n");
    assert_eq!(client.wait().status.code(), Some(143));
    let listed = host.json(&["ps", "-a", "--format", "json"]);
    assert_eq!((&listed[0]["state"], &listed[0]["exit_code"]), (&"exited".into(), &143.into()));
    assert_eq!(host.ok(&["rm", "web"]), "web\n");
    assert!(host.fails(125, &["rm", "web"]).contains("no such instance"));
}

#[test]
fn reads_standard_input_when_asked_to() {
    let Some(host) = busybox() else { return };
    let mut command = host.carve(&["run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c"]);
    let file = host.path("input");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    let output = command.stdin(std::fs::File::open(file).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3000000");
    let closed = host.ok(&["run", "--rm", "--network", "none", "busybox", "wc", "-c"]);
    assert_eq!(closed.trim(), "0");
}

#[test]
fn serves_on_a_published_port() {
    let Some(host) = Host::for_containers() else { return };
    host.import_demo();
    let publish = format!("127.0.0.1:{PORT}:80");
    let client = host.start(&["run", "--rm", "--name", "web", "-p", &publish, "--memory", "64m", "demo"]);
    let local = SocketAddr::from(([127, 0, 0, 1], PORT));
    let body = wait_for("the server answers", || http_get(local));
    assert_eq!(body, "hello from carve\n");
    let about = host.json(&["inspect", "web"]);
    let direct = format!("{}:80", about["ip"].as_str().unwrap()).parse().unwrap();
    assert_eq!(http_get(direct).as_deref(), Some("hello from carve\n"));
    assert!(host.fails(125, &["run", "-p", &publish, "demo"]).contains("in use"));
    client.signal(Signal::INT);
    assert_eq!(client.wait().status.code(), Some(0));
}

#[test]
fn neighbours_reach_each_other_and_get_different_addresses() {
    let Some(host) = Host::for_containers() else { return };
    host.import_demo();
    let web = host.start(&["run", "--rm", "--name", "web", "demo"]);
    let ip = wait_for("it has an address", || {
        let listed = host.json(&["ps", "--format", "json"]);
        listed[0]["address"].as_str().map(str::to_owned)
    });
    let body = wait_for("the neighbour answers", || {
        let output = host.run(&["run", "--rm", "demo", "wget", "-qO-", &format!("http://{ip}/")]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert_eq!(body, "hello from carve\n");
    assert_eq!(host.ok(&["stop", "web"]), "web\n");
    assert!(web.wait().status.code().is_some());
}
