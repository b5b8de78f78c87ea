//! Copies of one machine, at the same time.

#![expect(clippy::unwrap_used, reason = "part of tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tests::{Engine, Guest, Host, kernel, skip};

/// As the agent has it: by the end of a connection to here it learns that its machine is a copy.
const PORT: u32 = 1025;

#[test]
fn two_copies_of_a_snapshot_draw_different_random_numbers_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let kernel = kernel().unwrap();
    let initramfs = kernel.with_file_name("initramfs.cpio");
    if !initramfs.is_file() {
        return skip("no agent; run `cargo xtask agent`");
    }
    let (api, jail) = (host.path("api"), host.path("jail"));
    let sockets = ["first", "one", "other"].map(|name| sockets(&host.path(name)));
    let [(first, _), (one, _), (other, _)] = &sockets;

    let mut boot = host.carve(&["vm", "boot", "--memory", "128", "--cmdline", "quiet self_test=1", "--rng"]);
    boot.arg("--kernel").arg(&kernel).arg("--initrd").arg(&initramfs).arg("--vsock").arg(first);
    boot.arg("--api-sock").arg(&api).arg("--jail-root").arg(&jail);
    let mut machine = Guest::start(boot);
    let _ = machine.until("self-test tick");
    let mut snapshot = host.carve(&["vm", "snapshot", "--state", "/state", "--memory", "/memory"]);
    assert!(snapshot.arg("--api-sock").arg(&api).status().unwrap().success());
    drop(machine);

    let restore = |socket: &Path| {
        let mut restore = host.carve(&["vm", "restore"]);
        restore.arg("--state").arg(jail.join("state")).arg("--memory").arg(jail.join("memory"));
        restore.arg("--vsock").arg(socket);
        Guest::start(restore)
    };
    // Both are there before either is listened to.
    let mut copies = [restore(one), restore(other)];
    let numbers = copies.each_mut().map(|copy| copy.until("check reseed ok").pop().unwrap());
    // "… ok MICROSECONDS NUMBER instead of NUMBER, …"
    let drawn = |at: usize| numbers.each_ref().map(|line| line.split(' ').nth(at).unwrap().to_owned());
    let [after, before] = [drawn(5), drawn(8)];
    assert_ne!(after[0], after[1], "{numbers:?}");
    assert!(after.iter().all(|number| number.len() == 16 && !before.contains(number)), "{numbers:?}");
    for copy in &mut copies {
        let _ = copy.until("self-test tick");
    }
}

/// A directory for the sockets of a machine, whose jailed VMM has to come here: the path of its socket device's, and what
/// the guest connects to.
fn sockets(directory: &Path) -> (PathBuf, UnixListener) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o711)).unwrap();
    let for_guest = directory.join(format!("v_{PORT}"));
    let listener = UnixListener::bind(&for_guest).unwrap();
    fs::set_permissions(&for_guest, Permissions::from_mode(0o666)).unwrap();
    (directory.join("v"), listener)
}
