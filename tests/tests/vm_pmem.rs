//! Image files in a guest's physical memory: read without a copy in the guest, shared by machines, written through.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use tests::{Engine, Guest, Host, processes};

const MIB: u64 = 1 << 20;
/// Size of the file that both machines read.
const FILE: u64 = 16 * MIB;

fn runs(program: &str, command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask setup` installs it"));
    assert!(output.status.success(), "{program}: {output:?}");
}

/// What `/proc/PID/smaps` says of the mappings of `image` in a machine's process, in bytes, by the kernel's words.
fn mapped(machine: &Guest, image: &Path) -> HashMap<String, u64> {
    let inode = format!(" {} ", fs::metadata(image).expect("it is there").ino());
    let mut sums = HashMap::new();
    for process in processes(machine.pid()) {
        let smaps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
        let mut is_image = false;
        for line in smaps.lines() {
            match line.split_once(':') {
                Some((word, rest)) if word.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                    let kib = rest.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
                    if let (true, Some(kib)) = (is_image, kib) {
                        *sums.entry(word.to_owned()).or_default() += kib * 1024;
                    }
                }
                _ => is_image = line.contains(&inode),
            }
        }
    }
    sums
}

#[test]
fn two_machines_share_one_copy_of_an_image_and_keep_none_of_their_own() {
    const SCRIPT: &str = "mount -t proc proc /proc
mount -t erofs -o ro,dax /dev/pmem0 /mnt || echo FAILED mount
cached() { grep '^Cached:' /proc/meminfo | tr -s ' ' | cut -d' ' -f2; }
before=$(cached); echo sum $(sha256sum < /mnt/file); after=$(cached)
echo cached: $((after - before)) KiB; echo state: read; read word; poweroff -f";
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (tree, image) = (host.path("tree"), host.path("image"));
    fs::create_dir(&tree).expect("it is there");
    let file = tree.join("file");
    runs(
        "dd",
        Command::new("dd")
            .args(["if=/dev/urandom", "bs=1M", "count=16"])
            .arg(format!("of={}", file.display())),
    );
    runs("mkfs.erofs", Command::new("mkfs.erofs").arg(&image).arg(&tree));
    let sum = Command::new("sha256sum").stdin(File::open(&file).expect("it is there")).output();
    let sum = String::from_utf8(sum.expect("sha256sum runs").stdout).expect("text");
    let sum = sum.split(' ').next().expect("a sum");

    let pmem = format!("{},ro", image.display());
    let read = |name: &str| {
        let mut machine = Guest::boot(&host, name, SCRIPT, &["--pmem", &pmem]);
        let said = machine.until("state: read");
        assert!(said.iter().any(|line| line.starts_with(&format!("sum {sum}"))), "{said:#?}");
        let cached = said
            .iter()
            .find_map(|line| line.strip_prefix("cached: ")?.strip_suffix(" KiB")?.parse::<i64>().ok());
        (machine, cached.expect("the guest tells"))
    };
    let (first, cached) = read("first");
    let alone = mapped(&first, &image);
    let (second, _) = read("second");
    let (shared, other) = (mapped(&first, &image), mapped(&second, &image));
    println!("of {} MiB: in the guest's page cache {cached} KiB", FILE / MIB);
    for (whose, figures) in [("alone", &alone), ("first of two", &shared), ("second of two", &other)] {
        let [rss, pss, clean, dirty] =
            ["Rss", "Pss", "Private_Clean", "Private_Dirty"].map(|word| figures[word] / 1024);
        println!(
            "{whose}: {rss} KiB mapped, its share {pss} KiB, its own {clean} KiB clean, {dirty} KiB dirty"
        );
    }
    let own = |figures: &HashMap<String, u64>| figures["Private_Clean"] + figures["Private_Dirty"];
    assert!(cached < 1024, "the guest keeps {cached} KiB of it in its page cache");
    assert!(alone["Rss"] >= FILE && alone["Pss"] >= FILE, "{alone:?}");
    assert!(other["Rss"] >= FILE && own(&other) < MIB && own(&shared) < MIB, "{shared:?} {other:?}");
    assert!(shared["Pss"] + other["Pss"] < alone["Pss"] + 2 * MIB, "{alone:?} {shared:?} {other:?}");
    for mut machine in [first, second] {
        machine.tell("off");
        machine.ends();
    }
}

#[test]
fn what_a_guest_writes_is_in_the_file() {
    const SCRIPT: &str = "mount -t ext4 -o dax /dev/pmem0 /mnt || echo FAILED mount
echo from the host: $(cat /mnt/file)
echo precious > /mnt/kept; sync /mnt/kept || echo FAILED sync
echo state: flushed; read word";
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (tree, image) = (host.path("tree"), host.path("image"));
    fs::create_dir(&tree).expect("it is there");
    fs::write(tree.join("file"), "as it was").expect("it is there");
    // Blocks of a page, for dax.
    runs(
        "mkfs.ext4",
        Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-d"]).arg(&tree).arg(&image).arg("64M"),
    );
    let pmem = image.display().to_string();
    let mut machine = Guest::boot(&host, "guest", SCRIPT, &["--pmem", &pmem]);
    let said = machine.until("state: flushed");
    assert!(said.iter().any(|line| line == "from the host: as it was"), "{said:#?}");
    machine.kill();
    // The journal has it; the check replays it.
    let check = Command::new("e2fsck").args(["-p"]).arg(&image).output().expect("e2fsprogs is installed");
    assert!(check.status.code().is_some_and(|code| code <= 1), "{check:?}");
    let kept = Command::new("debugfs").args(["-R", "cat /kept"]).arg(&image).output().expect("debugfs runs");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "precious\n", "{kept:?}");
}
