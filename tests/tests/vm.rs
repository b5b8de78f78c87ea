//! `carve run --vm IMAGE`: the same image as a virtual machine. Under the KVM engine boots can take tens of seconds, so each
//! test asks for much of one machine.

#![expect(clippy::unwrap_used, reason = "some tests are functions of the engine")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Engine, Host, http_get, wait_for};

const PORT: u16 = 18082;
/// Bytes sent through a guest.
const MUCH: usize = 20 << 20;

#[test]
fn runs_the_app_as_a_container_would() {
    let Some(host) = Host::for_vms() else { return };
    host.import_busybox();
    let script = "hostname; echo $GREETING; pwd; id -u; id -g; uname -r; cat /etc/os-release > /dev/null && echo os; \
                  echo changed > /etc/os-release; mkdir /new && echo kept > /new/file && cat /new/file; \
                  yes 0123456789abcde | head -c 300000 | wc -c; seq 1 2000 | sort -rn | head -n 1; echo err >&2; exit 7";
    let output = host.run(&[
        "run",
        "--vm",
        "--rm",
        "--memory",
        "128m",
        "--name",
        "box-1",
        "-e",
        "GREETING=hello",
        "-w",
        "/tmp",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(&lines[..5], ["box-1", "hello", "/tmp", "0", "0"]);
    assert!(lines[5].starts_with("6.1."), "a kernel of its own: {}", lines[5]);
    // Pipelines of several programs: each must find its own vector registers again.
    assert_eq!(&lines[6..], ["os", "kept", "300000", "2000"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn serves_on_a_published_port_and_can_be_looked_at_and_stopped_under_soft() {
    serves_on_a_published_port_and_can_be_looked_at_and_stopped(Engine::Soft);
}

#[test]
fn serves_on_a_published_port_and_can_be_looked_at_and_stopped_under_kvm() {
    serves_on_a_published_port_and_can_be_looked_at_and_stopped(Engine::Kvm);
}

fn serves_on_a_published_port_and_can_be_looked_at_and_stopped(engine: Engine) {
    let Some(host) = Host::for_vms_with(engine) else { return };
    host.import_demo();
    let publish = format!("127.0.0.1:{PORT}:80");
    let events = host.path("events");
    let events_path = events.to_str().unwrap().to_owned();
    let client = host.start(&[
        "run",
        "--vm",
        "--rm",
        "--name",
        "web",
        "-p",
        &publish,
        "--memory",
        "128m",
        "--events",
        &events_path,
        "demo",
    ]);
    let local = SocketAddr::from(([127, 0, 0, 1], PORT));
    let body = wait_for("the server answers", || http_get(local));
    assert_eq!(body, "hello from carve\n");

    let about = host.json(&["inspect", "web"]);
    assert_eq!(about["model"], "vm");
    let direct = format!("{}:80", about["ip"].as_str().unwrap()).parse().unwrap();
    assert_eq!(wait_for("it answers directly", || http_get(direct)), "hello from carve\n");
    let guest = host.json(&["stats", "web"])["guest"].clone();
    let total = guest["total"].as_u64().unwrap();
    assert!((64 << 20..128 << 20).contains(&total), "{guest}");
    assert!(guest["agent"].as_u64().unwrap() > 0);

    client.signal(Signal::INT);
    assert_eq!(client.wait().status.code(), Some(0), "lighttpd ends in good order");
    let recorded = std::fs::read_to_string(&events).unwrap();
    for event in ["cli.start", "monitor.start", "vmm.first_run", "guest.agent_ready", "app.started", "exited"]
    {
        assert!(recorded.contains(&format!("\"{event}\"")), "{event} is not in {recorded}");
    }
}

#[test]
fn what_goes_through_the_network_arrives_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    host.import_busybox();
    let publish = format!("127.0.0.1:{PORT}:80");
    let script = "nc -l -p 80 > /tmp/much; nc -l -p 80 < /tmp/much";
    let args = ["run", "--vm", "--rm", "-m", "256m", "-p", &publish, "busybox", "sh", "-c", script];
    let client = host.start(&args);
    let local = SocketAddr::from(([127, 0, 0, 1], PORT));
    let connect = || wait_for("the guest listens", || TcpStream::connect(local).ok());
    let much = bytes();
    connect().write_all(&much).unwrap();
    let mut back = Vec::new();
    connect().read_to_end(&mut back).unwrap();
    assert!(back == much, "{} bytes came back", back.len());
    assert_eq!(client.wait().status.code(), Some(0));
}

#[test]
fn what_goes_through_standard_streams_arrives_with_either_model() {
    let Some(host) = Host::for_vms() else { return };
    host.import_busybox();
    let much = bytes();
    for model in [&["--vm"][..], &[]] {
        let args = [&["run", "--rm", "-i", "--network", "none"][..], model, &["busybox", "cat"]].concat();
        let mut cat =
            host.carve(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("carve starts");
        let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let mut back = Vec::new();
        std::thread::scope(|scope| {
            // To its end, or as far as anybody reads.
            scope.spawn(|| to.write_all(&much).map(|()| drop(to)));
            from.read_to_end(&mut back).unwrap();
        });
        let status = cat.wait().unwrap();
        assert!(status.success() && back == much, "{args:?}: {status:?}, and {} bytes came back", back.len());
    }
}

#[test]
fn input_that_comes_while_the_guest_boots_waits_for_the_app() {
    let Some(host) = Host::for_vms() else { return };
    host.import_busybox();
    let input = host.path("input");
    std::fs::write(&input, "early\n").unwrap();
    let mut cat = host.carve(&["run", "--vm", "--rm", "-i", "--network", "none", "busybox", "cat"]);
    let output = cat.stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"early\n"[..]), "{output:?}");
}

/// Bytes that say where they belong.
fn bytes() -> Vec<u8> {
    let word = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..MUCH as u64 / 8).flat_map(word).collect()
}

#[test]
fn a_killed_machine_leaves_nothing_and_the_next_command_says_so_under_soft() {
    a_killed_machine_leaves_nothing_and_the_next_command_says_so(Engine::Soft);
}

#[test]
fn a_killed_machine_leaves_nothing_and_the_next_command_says_so_under_kvm() {
    a_killed_machine_leaves_nothing_and_the_next_command_says_so(Engine::Kvm);
}

fn a_killed_machine_leaves_nothing_and_the_next_command_says_so(engine: Engine) {
    let Some(host) = Host::for_vms_with(engine) else { return };
    host.import_busybox();
    let client =
        host.start(&["run", "--vm", "--memory", "128m", "--name", "victim", "busybox", "sleep", "1000"]);
    let monitor = wait_for("its monitor runs", || {
        let listed = host.json(&["ps", "-a", "--format", "json"]);
        (listed[0]["name"] == "victim")
            .then(|| host.json(&["inspect", "victim"])["pids"]["monitor"].as_i64())?
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    kill_process(Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(client.wait().status.code(), Some(125));
    let listed = host.json(&["ps", "-a", "--format", "json"]);
    assert_eq!((&listed[0]["state"], &listed[0]["error"]), (&"exited".into(), &"the monitor died".into()));
    let _ = host.ok(&["rm", "victim"]);
}

#[test]
fn what_is_missing_is_said_before_anything_is_made() {
    let Some(host) = Host::for_vms() else { return };
    host.import_busybox();
    let not_a_kernel = host.path("not-a-kernel");
    std::fs::write(&not_a_kernel, "hello").unwrap();
    let run = |flag: &str, value: &str| host.fails(125, &["run", "--vm", flag, value, "busybox", "true"]);
    assert!(run("--kernel", "/no/such/kernel").contains("/no/such/kernel"));
    assert!(run("--kernel", not_a_kernel.to_str().unwrap()).contains("not-a-kernel"));
    assert!(run("--memory", "1k").contains("memory"));
}
