//! Memory that a guest gives back: by its balloon, and by telling what it has free.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use tests::{Api, Host, initramfs_with, kernel, processes, wait_for};

const MIB: u64 = 1 << 20;
/// What the guest touches and frees again.
const TOUCHED: u64 = 128 * MIB;

/// Fills a file in memory, says so, removes it on the next line of input, says so, and waits.
const SCRIPT: &str = "b=/bin/busybox; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs -o size=90% tmp /mnt\n\
    $b dd if=/dev/zero of=/mnt/file bs=1M count=128 2>/dev/null; echo init has touched\n\
    read line; $b rm /mnt/file; echo init has freed\n\
    while :; do $b sleep 1000; done";

/// A guest of 256 MiB behind the control API, with a balloon.
struct Guest {
    serve: Child,
    output: PathBuf,
    socket: PathBuf,
}

impl Guest {
    fn start(host: &Host, balloon: &Value) -> Self {
        let (config, output, socket) = (host.path("vm.json"), host.path("console"), host.path("api.sock"));
        let description = json!({
            "boot-source": {
                "kernel_image_path": kernel().expect("the host has one"),
                "initrd_path": initramfs_with(&host.path(""), SCRIPT),
                "boot_args": "console=ttyS0 quiet"
            },
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 },
            "balloon": balloon
        });
        fs::write(&config, description.to_string()).expect("a description");
        let mut serve = host.carve(&["vm", "serve"]);
        serve.arg("--api-sock").arg(&socket).arg("--config").arg(&config);
        serve.stdin(Stdio::piped()).stdout(fs::File::create(&output).expect("a file for the console"));
        let guest = Self { serve: serve.spawn().expect("carve starts"), output, socket };
        guest.says("init has touched");
        assert!(guest.resident() > TOUCHED);
        guest
    }

    fn says(&self, words: &str) {
        wait_for(words, || {
            fs::read(&self.output)
                .is_ok_and(|said| String::from_utf8_lossy(&said).contains(words))
                .then_some(())
        });
    }

    fn free(&mut self) {
        self.serve.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("carve reads");
        self.says("init has freed");
    }

    /// Bytes of the host's memory that the guest's RAM takes.
    fn resident(&self) -> u64 {
        let ram =
            processes(self.serve.id()).into_iter().find_map(guest_ram).expect("a process with guest RAM");
        fs::metadata(ram).expect("the file of guest RAM").blocks() * 512
    }

    fn wait_until_resident_below(&self, bytes: u64) {
        wait_for("the memory goes back", || (self.resident() < bytes).then_some(()));
    }

    /// One request of the control API, which must succeed.
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        Api::at(&self.socket).request(method, path, body)
    }

    fn stats(&self) -> Value {
        self.request("GET", "/balloon/statistics", &Value::Null)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.serve.kill().and_then(|()| self.serve.wait());
    }
}

/// The descriptor of a process that is the file of guest RAM.
fn guest_ram(process: u32) -> Option<PathBuf> {
    let descriptors = fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd")).ok()?;
    descriptors.flatten().map(|entry| entry.path()).find(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:guest-ram"))
    })
}

#[test]
fn what_the_guest_has_free_goes_back_by_itself() {
    let Some(host) = Host::for_vms() else { return };
    let mut guest =
        Guest::start(&host, &json!({"amount_mib": 0, "deflate_on_oom": false, "free_page_reporting": true}));
    guest.free();
    guest.wait_until_resident_below(TOUCHED / 2);
}

#[test]
fn what_is_in_the_balloon_goes_back_and_the_guest_tells_of_it() {
    let Some(host) = Host::for_vms() else { return };
    let mut guest =
        Guest::start(&host, &json!({"amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 1}));
    guest.free();
    assert!(guest.resident() > TOUCHED, "a guest that reports nothing keeps what it has touched");
    // Linux leaves it open which of its free pages it takes, so more than was never touched is asked for.
    guest.request("PATCH", "/balloon", &json!({"amount_mib": 192}));
    wait_for("the balloon is full", || (guest.stats()["actual_mib"] == 192).then_some(()));
    guest.wait_until_resident_below(TOUCHED - 64 * MIB);
    wait_for("the guest tells that it has little left", || {
        (guest.stats()["free_memory"].as_u64()? < 64 * MIB).then_some(())
    });
    guest.request("PATCH", "/balloon", &json!({"amount_mib": 0}));
    wait_for("the balloon is empty", || (guest.stats()["actual_mib"] == 0).then_some(()));
    wait_for("the guest has its memory again", || {
        (guest.stats()["free_memory"].as_u64()? > 192 * MIB).then_some(())
    });
}
