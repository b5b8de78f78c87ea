//! Network devices of the host that become a container's.

use std::process::Command;

use serde_json::json;

use crate::harness::{Bundle, Case, map_ids};

pub(crate) const CASES: &[Case] = &[
    ("a_device_moves_with_its_addresses", a_device_moves_with_its_addresses),
    ("a_device_moves_to_a_network_that_is_joined", a_device_moves_to_a_network_that_is_joined),
    ("a_device_that_cannot_be_moved_is_named", a_device_that_cannot_be_moved_is_named),
];

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).status().unwrap().success()
}

/// A pair of devices, one of them with addresses; gone when this is dropped.
struct Pair;

impl Pair {
    fn new() -> Self {
        let pair = Self;
        assert!(ip("link add moved0 type veth peer name stays0"));
        assert!(ip("address add 10.9.8.7/24 dev moved0"));
        assert!(ip("address add 10.9.8.9/24 dev moved0"));
        assert!(ip("address add fd00:9::7/64 dev moved0"));
        assert!(ip("link set stays0 up"));
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // It may have gone with the container's network already.
        let _gone = Command::new("ip").args(["link", "delete", "stays0"]).output();
    }
}

const SHOW: &str = "busybox ip address show";

fn a_device_moves_with_its_addresses() {
    for new_user in [false, true] {
        let _pair = Pair::new();
        let bundle = Bundle::script(&format!("{SHOW} inner0; {SHOW} moved0")).with(|config| {
            config["linux"]["netDevices"] = json!({"moved0": {"name": "inner0"}});
            if new_user {
                map_ids(config, 0);
            }
        });
        let output = bundle.run().output;
        for expected in ["inet 10.9.8.7/24", "inet 10.9.8.9/24", "inet6 fd00:9::7/64", "UP"] {
            assert!(output.contains(expected), "{expected}: {output}");
        }
        assert!(output.contains("can't find device 'moved0'"), "{output}");
        assert!(!ip("-brief link show dev moved0"), "it is the host's no more");
    }
}

fn a_device_moves_to_a_network_that_is_joined() {
    let _pair = Pair::new();
    let mut holder =
        Command::new("unshare").args(["--net", "--", "/bin/busybox", "sleep", "60"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(&path).is_ok_and(|link| link == own) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let bundle = Bundle::script(&format!("{SHOW} moved0")).with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
        config["linux"]["netDevices"] = json!({"moved0": {}});
    });
    let ended = bundle.run();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(ended.output.contains("inet 10.9.8.7/24"), "{ended:?}");
}

fn a_device_that_cannot_be_moved_is_named() {
    let _pair = Pair::new();
    for (devices, reason) in [
        (json!({"nowhere0": {}}), "linux.netDevices.nowhere0: No such device"),
        (json!({"stays0": {"name": "lo"}}), "linux.netDevices.stays0: \"lo\""),
        (json!({"stays0": {"name": "a/b"}}), "linux.netDevices.stays0"),
    ] {
        let error =
            Bundle::new(&["true"]).with(|config| config["linux"]["netDevices"] = devices).create_error();
        assert!(error.contains(reason), "{error}");
        assert!(ip("-brief link show dev stays0"));
    }
}
