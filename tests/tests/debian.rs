//! Debian's own kernel, which knows nothing of carve: it finds its machine by ACPI.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Host, skip, wait_for, workspace};

/// What the shell says when it waits for a command.
const PROMPT: &str = "/ # ";

#[test]
fn debians_kernel_boots_to_a_shell_with_disk_and_network() {
    let Some(host) = Host::for_vms() else { return };
    let files = host.path("debian");
    if let Err(reason) = make_kernel(&files) {
        return skip(&format!("no kernel of Debian's: {reason}"));
    }
    let disk = host.path("disk.img");
    File::create(&disk).unwrap().set_len(16 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").arg("-q").arg(&disk).status().unwrap().success());
    for words in ["tuntap add tap0 mode tap", "addr add 10.9.0.1/24 dev tap0", "link set tap0 up"] {
        ip(words);
    }

    let console = host.path("console");
    let said = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    let mut boot = host.carve(&["vm", "boot", "--memory", "512", "--net", "tap=tap0"]);
    boot.arg("--kernel").arg(files.join("vmlinuz")).arg("--initrd").arg(files.join("initramfs.cpio"));
    boot.arg("--disk").arg(&disk).stdin(Stdio::piped()).stdout(File::create(&console).unwrap());
    let mut guest = Killed(boot.spawn().unwrap());
    let mut keyboard = guest.0.stdin.take().unwrap();
    wait_for("Debian's kernel gives the console to a shell", || said().contains(PROMPT).then_some(()));
    // The words that are looked for are not in what is typed, which the console repeats.
    let script = "ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; ping -c 1 -W 20 10.9.0.1 && echo net''work\n\
                  mount /dev/vda /mnt && echo written > /mnt/file && umount /mnt && echo di''sk\n\
                  exit\n";
    keyboard.write_all(script.as_bytes()).unwrap();
    let status = wait_for("the guest powers off", || guest.0.try_wait().unwrap());
    let said = said();
    assert!(status.success(), "{status}: {said}");
    for what in ["network", "disk", "ACPI: Using ACPI (MADT)", "reboot: Power down"] {
        assert!(said.contains(what), "no {what:?} in {said}");
    }
    ip("link del tap0");
    let read = Command::new("debugfs").args(["-R", "cat /file"]).arg(&disk).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "written\n");
}

fn ip(words: &str) {
    assert!(
        Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success()),
        "ip {words}"
    );
}

/// Downloads the kernel, or finds it where it was downloaded to before.
fn make_kernel(files: &Path) -> Result<(), String> {
    let script = workspace().join("guest-images/debian/build.sh");
    let output = Command::new(script).arg(files).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(complaint.lines().last().unwrap_or("build.sh does not say why").to_owned())
}

/// A process that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait().map(drop));
    }
}
