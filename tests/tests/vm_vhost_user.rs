//! Devices that other programs serve: a directory by `virtiofsd`, a disk by QEMU's storage daemon. The machine is in its
//! jail, as it is by default.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use tests::{Engine, Guest, Host, skip, wait_for, workspace};

/// A program that serves a device; killed when dropped.
struct Backend(Child);

impl Backend {
    fn start(command: &mut Command, socket: &Path) -> Self {
        let backend = Self(command.spawn().expect("the back end starts"));
        wait_for("the back end listens", || socket.exists().then_some(()));
        backend
    }

    /// Waits until it ends by itself, as it does when its machine has gone.
    fn ends(&mut self) {
        wait_for("the back end ends", || self.0.try_wait().expect("it is there"));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait().map(drop));
    }
}

/// `virtiofsd`, where `cargo xtask setup` puts it.
fn virtiofsd() -> Option<PathBuf> {
    let program = workspace().join("target/tools/virtiofsd");
    if !program.is_file() {
        skip("no virtiofsd; `cargo xtask setup` builds it");
        return None;
    }
    Some(program)
}

#[test]
fn a_directory_of_the_host_is_the_guests_and_its_files_are_the_hosts() {
    const SCRIPT: &str = "mount -t virtiofs shared /mnt || echo FAILED mount
echo read: $(cat /mnt/from-host); echo large: $(sha256sum < /mnt/large)
echo from the guest > /mnt/from-guest || echo FAILED write
mkdir /mnt/dir && cp /mnt/large /mnt/dir/copy && mv /mnt/dir/copy /mnt/dir/moved || echo FAILED copy
ln -s moved /mnt/dir/link && rm /mnt/unwanted || echo FAILED link
sync; echo state: written; read word
echo later: $(cat /mnt/later)
umount /mnt || echo FAILED umount; poweroff -f";
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let Some(program) = virtiofsd() else { return };
    let (shared, socket) = (host.path("shared"), host.path("fs.sock"));
    fs::create_dir(&shared).expect("it is there");
    let file = |name: &str| shared.join(name);
    let large: Vec<u8> = (0..3_000_001u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(file("from-host"), "from the host").expect("it is there");
    fs::write(file("unwanted"), "").expect("it is there");
    fs::write(file("large"), &large).expect("it is there");
    let sum = Command::new("sha256sum").stdin(File::open(file("large")).expect("it is there")).output();
    let sum = String::from_utf8(sum.expect("sha256sum runs").stdout).expect("text");
    let sum = sum.split(' ').next().expect("a sum");

    let mut serve = Command::new(program);
    serve.arg("--socket-path").arg(&socket).arg("--shared-dir").arg(&shared);
    let mut backend = Backend::start(&mut serve, &socket);
    let flag = format!("socket={},tag=shared", socket.display());
    let mut guest = Guest::boot(&host, "guest", SCRIPT, &["--fs", &flag]);
    let said = guest.until("state: written");
    assert!(said.iter().any(|line| line == "read: from the host"), "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with(&format!("large: {sum}"))), "{sum}, {said:#?}");
    assert_eq!(fs::read_to_string(file("from-guest")).expect("it is there"), "from the guest\n");
    assert!(fs::read(file("dir/link")).expect("it is there") == large);
    assert!(!file("unwanted").exists());
    fs::write(file("later"), "while it runs").expect("it is there");
    guest.tell("on");
    guest.until("later: while it runs");
    guest.ends();
    backend.ends();
}

/// What the guest does with the disk: reads and writes at both of its ends, flushes, and puts a file system on it.
const DISK: &str = "
[ $(cat /sys/block/vda/size) = 131072 ] || echo FAILED size
echo first: $(dd if=/dev/vda bs=512 count=1 2>/dev/null); echo last: $(dd if=/dev/vda bs=512 skip=131071 2>/dev/null)
printf 'from the guest' | dd of=/dev/vda bs=512 seek=131070 conv=fsync 2>/dev/null || echo FAILED write
dd if=/dev/urandom of=/pattern bs=1M count=4 2>/dev/null; echo sum $(sha256sum < /pattern)
dd if=/pattern of=/dev/vda bs=1M seek=8 conv=fsync 2>/dev/null || echo FAILED write
echo 3 > /proc/sys/vm/drop_caches
echo again $(dd if=/dev/vda bs=1M skip=8 count=4 2>/dev/null | sha256sum)
echo state: written; read word; poweroff -f";

#[test]
fn a_disk_that_qemus_storage_daemon_serves_is_read_and_written() {
    const SECTOR: u64 = 512;
    const LAST: u64 = (64 << 20) / SECTOR - 1;
    const PROGRAM: &str = "qemu-storage-daemon";
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    if Command::new(PROGRAM).arg("--version").output().is_err() {
        return skip("no qemu-storage-daemon; it is in Debian's qemu-system-common");
    }
    let (disk, socket) = (host.path("disk"), host.path("disk.sock"));
    let file = File::options().read(true).write(true).create_new(true).open(&disk).expect("it is new");
    file.set_len((LAST + 1) * SECTOR).expect("there is room");
    file.write_all_at(b"one end\n", 0).expect("there is room");
    file.write_all_at(b"the other\n", LAST * SECTOR).expect("there is room");

    let mut serve = Command::new(PROGRAM);
    serve.arg("--blockdev").arg(format!("driver=file,node-name=disk,filename={}", disk.display()));
    serve.arg("--export").arg(format!(
        "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=2,addr.type=unix,addr.path={}",
        socket.display()
    ));
    let _backend = Backend::start(&mut serve, &socket);
    let flag = format!("socket={},queues=2", socket.display());
    let script = format!("mount -t proc proc /proc\n{DISK}");
    let mut guest = Guest::boot(&host, "guest", &script, &["--vhost-user-disk", &flag]);
    let said = guest.until("state: written");
    let after = |word: &str| {
        said.iter().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim_end_matches('\0'))
    };
    assert_eq!((after("first: "), after("last: ")), (Some("one end"), Some("the other")), "{said:#?}");
    assert!(after("sum ").is_some() && after("sum ") == after("again "), "{said:#?}");
    let mut written = [0; 14];
    file.read_exact_at(&mut written, (LAST - 1) * SECTOR).expect("it is there");
    assert_eq!(&written, b"from the guest");
    guest.tell("on");
    guest.ends();

    // The daemon serves the next machine, which finds what this one has left.
    let mut guest = Guest::boot(&host, "again", &script, &["--vhost-user-disk", &flag]);
    guest.until("last: the other");
    guest.kill();
}
