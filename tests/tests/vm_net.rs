//! The network card of `carve vm boot` on a real tap: bulk both ways, offloads, MTU and rate limits.

use std::fs::read_to_string;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Engine, Host, initramfs_with, kernel, wait_for};

/// The host's end of the tap, and the guest's.
const HOST: &str = "10.77.0.1";
const GUEST: &str = "10.77.0.2";
const TAP: &str = "tap0";
const MAC: &str = "02:00:00:00:00:77";
/// Where the host hands a file out, and where it takes it back.
const DOWN: u16 = 7001;
const UP: u16 = 7002;

/// Makes the tap, which a machine of this test's namespace attaches to.
fn make_tap(mtu: u16) {
    let mtu = mtu.to_string();
    for words in [
        &["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"][..],
        &["link", "set", TAP, "mtu", &mtu, "up"],
        &["addr", "add", &format!("{HOST}/24"), "dev", TAP],
    ] {
        assert!(Command::new("ip").args(words).status().expect("ip runs").success(), "ip {words:?}");
    }
}

/// Hands out `bytes` once, and takes as many back.
fn serve(bytes: Vec<u8>) -> JoinHandle<Vec<u8>> {
    let (down, up) = (
        TcpListener::bind((HOST, DOWN)).expect("a free port"),
        TcpListener::bind((HOST, UP)).expect("a free port"),
    );
    thread::spawn(move || {
        let mut stream = accept(&down);
        stream.write_all(&bytes).expect("the guest takes it");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut back = vec![0; bytes.len()];
        let mut stream = accept(&up);
        stream.read_exact(&mut back).expect("the guest sends it");
        back
    })
}

/// The guest's connection, if it comes before the test's patience ends.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("it is open");
    let (stream, _) = wait_for("the guest connects", || listener.accept().ok());
    stream.set_nonblocking(false).expect("it is open");
    stream
}

/// Boots a guest whose card takes these words beyond its tap, and which fetches the file and sends it back. Its initramfs
/// is made in `dir`.
fn boot(host: &Host, dir: &str, words: &str) -> Output {
    let script = format!(
        "b=/bin/busybox; $b mount -t devtmpfs dev /dev; $b mount -t sysfs sysfs /sys; $b mount -t tmpfs -o size=90% tmpfs /mnt\n\
         $b ip addr add {GUEST}/24 dev eth0; $b ip link set eth0 up\n\
         $b echo card $($b cat /sys/class/net/eth0/address) $($b cat /sys/class/net/eth0/mtu)\n\
         $b nc {HOST} {DOWN} </dev/null >/mnt/file; $b nc {HOST} {UP} </mnt/file\n\
         $b poweroff -f"
    );
    std::fs::create_dir(host.path(dir)).expect("a directory");
    let initrd = initramfs_with(&host.path(dir), &script);
    let mut boot = host.carve(&["vm", "boot", "--memory", "192", "--cmdline", "quiet"]);
    boot.arg("--kernel").arg(kernel().expect("the host has one")).arg("--initrd").arg(initrd);
    boot.arg("--net").arg(format!("tap={TAP}{words}")).output().expect("carve runs")
}

/// Bytes and packets that the tap has had from the guest, and those that the guest has had from it.
fn traffic() -> [(u64, u64); 2] {
    let table = read_to_string("/proc/thread-self/net/dev").expect("a table of links");
    let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{TAP}:"))).expect("the tap");
    let figures: Vec<u64> = line.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
    [(figures[0], figures[1]), (figures[8], figures[9])]
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

/// Counts from now on, in the two directions, what passes the tap in one piece and is larger than its MTU: segments that
/// the one side leaves for the other to cut.
fn count_segments(mtu: u16) {
    let table = format!(
        "table inet segments {{
            counter from_guest {{ }}
            counter to_guest {{ }}
            chain from {{ type filter hook input priority 0; iifname {TAP} meta length > {mtu} counter name from_guest; }}
            chain to {{ type filter hook output priority 0; oifname {TAP} meta length > {mtu} counter name to_guest; }}
        }}"
    );
    assert!(Command::new("nft").arg(table).status().expect("nft runs").success());
}

/// The segments that came from the guest since the count began, and those that went to it. Ends the count.
fn segments() -> [u64; 2] {
    let listed =
        Command::new("nft").args(["-j", "list", "table", "inet", "segments"]).output().expect("nft runs");
    assert!(
        Command::new("nft")
            .args(["delete", "table", "inet", "segments"])
            .status()
            .expect("nft runs")
            .success()
    );
    let table: Value = serde_json::from_slice(&listed.stdout).expect("nft speaks JSON");
    let objects = table["nftables"].as_array().expect("a list of objects");
    ["from_guest", "to_guest"].map(|name| {
        let counter = objects.iter().map(|object| &object["counter"]).find(|counter| counter["name"] == name);
        counter.and_then(|counter| counter["packets"].as_u64()).expect("the counter is there")
    })
}

fn remove_tap() {
    assert!(Command::new("ip").args(["link", "del", TAP]).status().expect("ip runs").success());
}

#[test]
fn a_file_goes_both_ways_in_whole_segments_whatever_the_mtu_under_soft() {
    const LENGTH: usize = 8 << 20;
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    for mtu in [9000, 1500] {
        make_tap(mtu);
        count_segments(mtu);
        let server = serve(pattern(LENGTH));
        let start = Instant::now();
        let output = boot(&host, &format!("mtu{mtu}"), &format!(",mac={MAC},mtu={mtu}"));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("card {MAC} {mtu}")), "{output:?}");
        assert!(server.join().unwrap() == pattern(LENGTH), "mtu {mtu}: other bytes came back");
        let segments = segments();
        println!(
            "mtu {mtu}: {:?}, from and to the guest {:?}, larger than a packet {segments:?}",
            start.elapsed(),
            traffic()
        );
        assert!(segments.into_iter().all(|segments| segments > 0), "mtu {mtu}: {segments:?}");
        remove_tap();
    }
}

#[test]
fn a_rate_limit_holds_in_both_directions_under_soft() {
    // Far below what even a busy host's interpreter does.
    const LIMIT: u64 = 500_000;
    const LENGTH: usize = 2_500_000;
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    make_tap(1500);
    let server = serve(pattern(LENGTH));
    let guest = thread::scope(|scope| {
        let guest = scope.spawn(|| boot(&host, "limited", &format!(",bw={LIMIT}")));
        // In the order in which the guest uses them; the first second's worth is in the bucket.
        for direction in [1, 0] {
            let at = |bytes: u64| {
                while traffic()[direction].0 < bytes {
                    assert!(!guest.is_finished(), "the guest has ended early");
                    thread::sleep(Duration::from_millis(5));
                }
                (Instant::now(), traffic()[direction].0)
            };
            let ((start, first), (end, last)) = (at(800_000), at(2_300_000));
            let rate = (last - first) as f64 / (end - start).as_secs_f64();
            println!("direction {direction}: {rate:.0} bytes a second over {:?}", end - start);
            assert!(end - start > Duration::from_secs(2));
            assert!(
                (0.8..1.2).contains(&(rate / LIMIT as f64)),
                "direction {direction}: {rate:.0} bytes a second"
            );
        }
        guest.join().unwrap()
    });
    assert!(guest.status.success(), "{guest:?}");
    assert!(server.join().unwrap() == pattern(LENGTH), "other bytes came back");
    remove_tap();
}
