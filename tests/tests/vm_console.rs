//! The virtio console of `carve vm boot`, wherever it leads.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use tests::{Guest, Host, wait_for};

/// Repeats what it is told until that is `off`.
const SCRIPT: &str = "echo on $(cat /sys/class/tty/console/active)
while read line; do [ \"$line\" = off ] && break; echo it was told: $line; done; reboot -f";

fn boot(host: &Host, console: &str) -> Guest {
    Guest::boot(host, "guest", SCRIPT, &["--console", console])
}

#[test]
fn it_is_on_standard_input_and_output() {
    let Some(host) = Host::for_vms() else { return };
    let mut guest = boot(&host, "stdio");
    guest.until("on hvc0");
    guest.tell("hello");
    guest.until("it was told: hello");
    guest.tell("off");
    guest.ends();
}

#[test]
fn it_is_in_a_file_from_which_nothing_can_be_typed() {
    let Some(host) = Host::for_vms() else { return };
    let log = host.path("console.log");
    let mut guest = boot(&host, &format!("file={}", log.display()));
    wait_for("the guest speaks", || fs::read_to_string(&log).ok()?.contains("on hvc0").then_some(()));
    guest.tell("hello");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!fs::read_to_string(&log).unwrap().contains("hello"));
    guest.kill();
}

#[test]
fn clients_attach_to_its_socket_one_after_the_other_and_it_disappears() {
    let Some(host) = Host::for_vms() else { return };
    let path = host.path("console.sock");
    let guest = boot(&host, &format!("socket={}", path.display()));
    let attach = || {
        let client = wait_for("the console listens", || UnixStream::connect(&path).ok());
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client
    };
    let until = |mut client: &UnixStream, words: &str| {
        let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&said).contains(words) {
            let count = client.read(&mut bytes).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&bytes[..count]);
        }
    };
    let mut first = attach();
    until(&first, "on hvc0");
    first.write_all(b"one\n").unwrap();
    until(&first, "it was told: one");
    drop(first);
    let mut second = attach();
    second.write_all(b"two\n").unwrap();
    until(&second, "it was told: two");
    second.write_all(b"off\n").unwrap();
    guest.ends();
    assert!(!path.exists());
}
