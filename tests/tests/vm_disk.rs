//! A machine's disk, as the host finds it while the guest runs, and after the machine was killed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use tests::{Engine, Guest, Host};

const MIB: u64 = 1 << 20;

/// What the guest does on its first run: fills a file system and trims it, discards a disk, and flushes what is to stay.
const FIRST: &str = "
fill() { dd if=/dev/zero of=/mnt/filling bs=1M count=$1 conv=fsync 2>/dev/null; }
mount -t ext4 /dev/vda /mnt || echo FAILED mount
fill 32 || echo FAILED fill
echo state: filled; read word
rm /mnt/filling; sync; fstrim /mnt || echo FAILED fstrim
blkdiscard /dev/vdb || echo FAILED blkdiscard
echo state: given back; read word
echo precious > /mnt/kept; sync /mnt/kept || echo FAILED sync
echo serial: $(cat /sys/block/vda/serial)
echo state: flushed; read word";

/// And on its second, after the machine was killed.
const SECOND: &str = "
mount -t ext4 /dev/vda /mnt || echo FAILED mount
echo kept: $(cat /mnt/kept)
umount /mnt; poweroff -f";

fn boot(host: &Host, (name, script): (&str, &str), options: &str) -> Guest {
    let disk = |file: &str, words: &str| format!("{}{words},{options}", host.path(file).display());
    let (root, data) = (disk("root", ",id=root"), disk("data", ""));
    Guest::boot(host, name, script, &["--disk", &root, "--disk", &data])
}

/// Bytes that the file takes on the host.
fn taken(path: &Path) -> u64 {
    File::open(path).and_then(|file| file.sync_all()).expect("it is there");
    fs::metadata(path).expect("it is there").blocks() * 512
}

fn survives_flushes_and_gives_back(options: &str) {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (root, data) = (host.path("root"), host.path("data"));
    File::create(&root).expect("it is there").set_len(64 * MIB).expect("it is there");
    let made =
        Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&root).status().expect("e2fsprogs is installed");
    assert!(made.success());
    fs::write(&data, vec![0xaa; 8 << 20]).expect("it is there");

    let mut guest = boot(&host, ("first", FIRST), options);
    guest.until("state: filled");
    let filled = taken(&root);
    assert!(filled >= 32 * MIB, "{filled} bytes");
    guest.tell("on");
    guest.until("state: given back");
    assert!(taken(&root) + 30 * MIB <= filled, "{} bytes of {filled} are left", taken(&root));
    assert!(taken(&data) < MIB, "{} bytes are left of the discarded disk", taken(&data));
    assert_eq!(fs::metadata(&data).expect("it is there").len(), 8 * MIB);
    guest.tell("on");
    let said = guest.until("state: flushed");
    assert!(said.iter().any(|line| line == "serial: root"), "no serial in {said:?}");
    guest.kill();

    let mut guest = boot(&host, ("second", SECOND), options);
    guest.until("kept: precious");
    guest.ends();
}

#[test]
fn a_disk_survives_flushes_and_gives_back() {
    survives_flushes_and_gives_back("io=sync");
}

#[test]
fn a_disk_behind_a_ring_with_several_queues_survives_flushes_and_gives_back() {
    survives_flushes_and_gives_back("io=async,queues=4");
}
