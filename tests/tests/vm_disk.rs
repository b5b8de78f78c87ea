//! A machine's disk, as the host finds it while the guest runs, and after the machine was killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tests::{Engine, Host, initramfs_with, kernel};

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

/// A guest that stops after each step until it is told to go on.
struct Guest {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Guest {
    fn boot(host: &Host, (name, script): (&str, &str), options: &str) -> Self {
        let script = format!(
            "/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t devtmpfs dev /dev\nmount -t sysfs sys /sys\n{script}"
        );
        let initrd = initramfs_with(&host.path(name), &script);
        let mut boot = host.carve(&["vm", "boot", "--memory", "128"]);
        boot.arg("--kernel").arg(kernel().expect("the host has one")).arg("--initrd").arg(initrd);
        boot.arg("--disk").arg(format!("{},id=root,{options}", host.path("root").display()));
        boot.arg("--disk").arg(format!("{},{options}", host.path("data").display()));
        let mut process = boot.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("carve starts");
        let lines = BufReader::new(process.stdout.take().expect("asked for above")).lines();
        Self { process, lines }
    }

    /// Lets the guest work until it says this; answers what it said before.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut said = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.expect("a line");
            assert!(!line.contains("FAILED"), "{line}, after {said:?}");
            if line.contains(wanted) {
                return said;
            }
            said.push(line);
        }
        panic!("the guest has ended without {wanted:?}: {said:?}");
    }

    fn go_on(&mut self) {
        use std::io::Write;
        self.process.stdin.as_mut().expect("asked for above").write_all(b"on\n").expect("it listens");
    }

    /// What `kill -9` does to all of its processes.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill().and_then(|()| self.process.wait().map(drop));
    }
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

    let mut guest = Guest::boot(&host, ("first", FIRST), options);
    guest.until("state: filled");
    let filled = taken(&root);
    assert!(filled >= 32 * MIB, "{filled} bytes");
    guest.go_on();
    guest.until("state: given back");
    assert!(taken(&root) + 30 * MIB <= filled, "{} bytes of {filled} are left", taken(&root));
    assert!(taken(&data) < MIB, "{} bytes are left of the discarded disk", taken(&data));
    assert_eq!(fs::metadata(&data).expect("it is there").len(), 8 * MIB);
    guest.go_on();
    let said = guest.until("state: flushed");
    assert!(said.iter().any(|line| line == "serial: root"), "no serial in {said:?}");
    guest.kill();

    let mut guest = Guest::boot(&host, ("second", SECOND), options);
    guest.until("kept: precious");
    assert!(guest.process.wait().expect("it is there").success());
}

#[test]
fn a_disk_survives_flushes_and_gives_back() {
    survives_flushes_and_gives_back("io=sync");
}

#[test]
fn a_disk_behind_a_ring_with_several_queues_survives_flushes_and_gives_back() {
    survives_flushes_and_gives_back("io=async,queues=4");
}
