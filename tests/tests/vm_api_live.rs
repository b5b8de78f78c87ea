//! The control API of a running machine over its socket: what is changed is changed in the guest, and a snapshot goes
//! on in another server.

use std::{
    fs::{self, File},
    io::Read,
    net::{Shutdown, TcpListener},
    path::PathBuf,
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};
use tests::{Api, Engine, Guest, Host, OBEYS, kernel, wait_for};

const MIB: u64 = 1 << 20;
/// The host's address on each tap, and the guest's.
const HOST: &str = "10.78.0.1";
const GUEST: &str = "10.78.0.2";
const PORT: u16 = 7003;

/// A tap that a machine of this test's namespace attaches to.
struct Tap(&'static str);

impl Tap {
    fn new(name: &'static str) -> Self {
        ip(&["tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr"]);
        ip(&["link", "set", name, "up"]);
        ip(&["addr", "add", &format!("{HOST}/24"), "dev", name]);
        Self(name)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        ip(&["link", "del", self.0]);
    }
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().expect("ip runs").success(), "ip {words:?}");
}

/// A disk of so many MiB that begins with this word.
fn disk(host: &Host, name: &str, mib: u64) -> PathBuf {
    let path = host.path(name);
    fs::write(&path, format!("{name}\n")).expect("there is room");
    File::options().write(true).open(&path).expect("it is there").set_len(mib * MIB).expect("there is room");
    path
}

/// A server without a machine.
fn serve(host: &Host, name: &str) -> (Guest, Api) {
    let socket = host.path(name);
    let mut serve = host.carve(&["vm", "serve", "--no-jail", "--api-sock"]);
    serve.arg(&socket);
    (Guest::start(serve), Api::at(&socket))
}

/// A machine that obeys, with all that can be changed while it runs, made by requests.
fn machine(host: &Host) -> (Guest, Api, Tap) {
    let tap = Tap::new("tap0");
    let (mut guest, api) = serve(host, "api.sock");
    let put = |path: &str, body: Value| api.request("PUT", path, &body);
    put("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 128 }));
    put(
        "/boot-source",
        json!({
            "kernel_image_path": kernel(), "initrd_path": Guest::initramfs(host, "guest", OBEYS),
            "boot_args": "console=ttyS0 quiet"
        }),
    );
    let data = disk(host, "data", 8);
    put("/drives/data", json!({ "drive_id": "data", "path_on_host": data, "is_root_device": false }));
    put("/network-interfaces/eth0", json!({ "iface_id": "eth0", "host_dev_name": "tap0" }));
    put("/balloon", json!({ "amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 1 }));
    put("/entropy", json!({}));
    put("/actions", json!({ "action_type": "InstanceStart" }));
    guest.until("state: obeys");
    assert_eq!(
        guest.runs(&format!("ip addr add {GUEST}/24 dev eth0; ip link set eth0 up; head -n 1 /dev/vda")),
        "data"
    );
    (guest, api, tap)
}

/// Seconds until `bytes` have come from the guest.
fn sends(guest: &mut Guest, bytes: u64) -> f64 {
    let listener = TcpListener::bind((HOST, PORT)).expect("a free port");
    listener.set_nonblocking(true).expect("it is open");
    let begun = Instant::now();
    guest.tell(&format!("head -c {bytes} /dev/zero | nc {HOST} {PORT}"));
    let (stream, _) = wait_for("the guest connects", || listener.accept().ok());
    stream.set_nonblocking(false).expect("it is open");
    let mut rest = stream.try_clone().expect("a descriptor").take(bytes);
    let came = std::io::copy(&mut rest, &mut std::io::sink()).expect("the guest sends");
    assert_eq!(came, bytes);
    let seconds = begun.elapsed().as_secs_f64();
    stream.shutdown(Shutdown::Both).expect("it is open");
    guest.until("done: ");
    seconds
}

/// Seconds that the guest takes to read so many MiB of its disk.
fn reads(guest: &mut Guest, mib: u64) -> f64 {
    let begun = Instant::now();
    guest.runs(&format!(
        "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=1M count={mib} 2>/dev/null"
    ));
    begun.elapsed().as_secs_f64()
}

fn bandwidth(bytes_per_second: u64) -> Value {
    json!({ "bandwidth": { "size": bytes_per_second, "refill_time": 1000 } })
}

#[test]
fn disks_cards_and_balloon_change_while_the_guest_runs() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (mut guest, api, _tap) = machine(&host);
    guest.runs("mount -t proc proc /proc");

    // Another file: the guest is told of its size, and reads it.
    let path = disk(&host, "other", 12);
    api.request("PATCH", "/drives/data", &json!({ "drive_id": "data", "path_on_host": path }));
    wait_for("the guest sees the size", || (guest.runs("cat /sys/block/vda/size") == "24576").then_some(()));
    assert_eq!(guest.runs("echo 3 > /proc/sys/vm/drop_caches; head -n 1 /dev/vda"), "other");
    let refused =
        api.refused("PATCH", "/drives/data", &json!({ "drive_id": "data", "path_on_host": "/nowhere" }));
    assert!(refused.contains("/nowhere"), "{refused}");
    assert_eq!(guest.runs("echo 3 > /proc/sys/vm/drop_caches; head -n 1 /dev/vda"), "other");

    // Limits: the first second's bytes are free, the others take their time.
    let limit = |bytes| json!({ "drive_id": "data", "rate_limiter": bandwidth(bytes) });
    let free = reads(&mut guest, 6);
    api.request("PATCH", "/drives/data", &limit(MIB));
    let limited = reads(&mut guest, 6);
    api.request("PATCH", "/drives/data", &limit(0));
    let freed = reads(&mut guest, 6);
    println!("6 MiB from the disk: {free:.2} s, with a limit {limited:.2} s, then {freed:.2} s");
    assert!(limited > 4.5 && free < limited && freed < limited);

    let limit = |bytes| json!({ "iface_id": "eth0", "tx_rate_limiter": bandwidth(bytes) });
    let free = sends(&mut guest, MIB / 4);
    api.request("PATCH", "/network-interfaces/eth0", &limit(MIB / 32));
    let limited = sends(&mut guest, MIB / 4);
    api.request("PATCH", "/network-interfaces/eth0", &limit(0));
    let freed = sends(&mut guest, MIB / 4);
    println!("256 KiB to the network: {free:.2} s, with a limit {limited:.2} s, then {freed:.2} s");
    assert!(limited > 6.5 && freed < limited);

    api.request("PATCH", "/balloon", &json!({ "amount_mib": 32 }));
    wait_for("the balloon is full", || {
        (api.request("GET", "/balloon/statistics", &Value::Null)["actual_mib"] == 32).then_some(())
    });
    api.request("PATCH", "/balloon/statistics", &json!({ "stats_polling_interval_s": 2 }));
    assert_eq!(api.request("GET", "/balloon", &Value::Null)["stats_polling_interval_s"], 2);

    for (path, body, complaint) in [
        ("/drives/none", json!({ "drive_id": "none" }), "none"),
        ("/network-interfaces/none", json!({ "iface_id": "none" }), "none"),
        ("/balloon", json!({ "amount_mib": 4096 }), "4096"),
        ("/machine-config", json!({ "mem_size_mib": 256 }), "not supported after starting"),
    ] {
        let refused = api.refused("PATCH", path, &body);
        assert!(refused.contains(complaint), "{path}: {refused}");
    }
    guest.tell("poweroff -f");
    guest.ends();
}

#[test]
fn a_paused_machine_stands_still_and_a_snapshot_goes_on_in_another_server() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (mut guest, api, tap) = machine(&host);
    // What was changed while it ran is the machine that goes on.
    let changed = json!({ "drive_id": "data", "path_on_host": disk(&host, "other", 12), "rate_limiter": bandwidth(64 * MIB) });
    api.request("PATCH", "/drives/data", &changed);
    guest.runs("echo kept > /kept; echo on the disk | dd of=/dev/vda conv=fsync 2>/dev/null");
    let state = |api: &Api| api.request("GET", "/", &Value::Null)["state"].clone();
    let files = json!({ "snapshot_path": host.path("state"), "mem_file_path": host.path("memory") });

    let refused = api.refused("PUT", "/snapshot/create", &files);
    assert!(refused.contains("pause"), "{refused}");
    api.request("PATCH", "/vm", &json!({ "state": "Paused" }));
    assert_eq!(state(&api), "Paused");
    guest.tell("echo while it was paused");
    api.request("PUT", "/snapshot/create", &files);
    api.request("PATCH", "/vm", &json!({ "state": "Resumed" }));
    assert_eq!(state(&api), "Running");
    guest.until("while it was paused");
    guest.until("done: 0");

    guest.kill();
    drop(tap);
    let _tap = Tap::new("tap1");
    let (mut clone, other) = serve(&host, "other.sock");
    let load = json!({
        "snapshot_path": host.path("state"),
        "mem_backend": { "backend_type": "File", "backend_path": host.path("memory") },
        "network_overrides": [{ "iface_id": "eth0", "host_dev_name": "tap1" }],
        "resume_vm": true
    });
    let missing = json!({ "snapshot_path": host.path("none"), "mem_file_path": host.path("memory") });
    let refused = other.refused("PUT", "/snapshot/load", &missing);
    assert!(refused.contains("none"), "{refused}");
    other.request("PUT", "/snapshot/load", &load);
    assert_eq!(state(&other), "Running");
    assert_eq!(clone.runs("cat /kept; head -n 1 /dev/vda"), "kept\non the disk");
    let drive = &other.request("GET", "/vm/config", &Value::Null)["drives"][0];
    assert_eq!(drive["path_on_host"], changed["path_on_host"], "{drive}");
    assert_eq!(drive["rate_limiter"]["bandwidth"]["size"], 64 * MIB, "{drive}");
    sends(&mut clone, MIB);
    let refused = other.refused("PUT", "/snapshot/load", &load);
    assert!(refused.contains("not supported after starting"), "{refused}");
    clone.tell("poweroff -f");
    clone.ends();
}
