//! `carve doctor`: what this host offers for each model, and what to do about what it lacks.

mod vm;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use container::cgroup::{Hierarchy, HierarchyKind};
use engine::Model;
use rustix::fs::{major, minor};
use serde_json::json;
use vmm::Engine;

use crate::{
    exit::Exit,
    format::{self, Format},
    guest,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carve doctor\n  carve doctor --format json\n  carve doctor --vm                  boots virtual machines and examines them: a report to add to a bug\n\nExit status: 1 when a model cannot run here, or with --vm when a check failed."
)]
pub(crate) struct Args {
    /// Boot virtual machines with each engine, examine them from within, and report
    #[arg(long)]
    vm: bool,
    /// Examine also what takes minutes: guests whose kernel this host's KVM emulates
    #[arg(long, requires = "vm")]
    slow: bool,
    /// Directory of vmlinux and initramfs.cpio, with --vm
    #[arg(long, env = "CARVE_GUEST_DIR", value_name = "DIR")]
    guest_dir: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What was found about one thing that a model needs or can use.
struct Finding {
    what: &'static str,
    /// The models that cannot run without it; none when it only makes things better.
    needed_by: &'static [Model],
    found: Result<String, String>,
}

const BOTH: &[Model] = &[Model::Container, Model::Vm];

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    if args.vm {
        return vm::run(args);
    }
    let findings = findings(root);
    let can = |model: Model| !findings.iter().any(|f| f.found.is_err() && f.needed_by.contains(&model));
    match args.format {
        Format::Json => {
            let list: Vec<_> = findings
                .iter()
                .map(|f| {
                    json!({
                        "what": f.what,
                        "needed_by": f.needed_by.iter().map(|m| m.as_str()).collect::<Vec<_>>(),
                        "ok": f.found.is_ok(),
                        "finding": f.found.as_ref().unwrap_or_else(|e| e),
                    })
                })
                .collect();
            println!(
                "{:#}",
                json!({ "container": can(Model::Container), "vm": can(Model::Vm), "findings": list })
            );
        }
        Format::Table => {
            let mut table = format::table(["", "WHAT", "NEEDED BY", "FINDING"]);
            for f in &findings {
                let mark = match (&f.found, f.needed_by) {
                    (Ok(_), _) => "ok",
                    (Err(_), []) => "-",
                    (Err(_), _) => "MISSING",
                };
                let needed: Vec<_> = f.needed_by.iter().map(|m| m.as_str()).collect();
                table.add_row([mark, f.what, &needed.join(", "), f.found.as_ref().unwrap_or_else(|e| e)]);
            }
            println!("{table}");
            for model in BOTH {
                println!(
                    "{}: {}",
                    model.as_str(),
                    if can(*model) { "can run here" } else { "cannot run here" }
                );
            }
        }
    }
    Ok(if BOTH.iter().all(|m| can(*m)) { Exit::Success } else { Exit::Code(1) })
}

fn findings(root: &Path) -> Vec<Finding> {
    let finding = |what, needed_by, found| Finding { what, needed_by, found };
    vec![
        finding("kernel", BOTH, kernel()),
        finding("root", BOTH, is_root()),
        finding("data root", BOTH, data_root(root)),
        finding("namespaces", &[Model::Container], namespaces()),
        finding("overlayfs", &[Model::Container], file_system("overlay")),
        finding("EROFS", &[Model::Container], file_system("erofs")),
        finding("cgroups", BOTH, cgroups()),
        finding("seccomp", &[Model::Container], seccomp()),
        finding(
            "/dev/kvm",
            &[Model::Vm],
            device(
                "/dev/kvm",
                (10, 232),
                "load the module kvm_intel or kvm_amd, or enable virtualisation in the firmware",
            ),
        ),
        finding("hardware virtualisation", &[], hardware_virtualisation()),
        finding("engine", &[], Ok(engine())),
        finding("guest kernel", &[Model::Vm], guest_kernel()),
        finding("mkfs.ext4", &[Model::Vm], program("mkfs.ext4", "-V", "e2fsprogs")),
        finding(
            "/dev/net/tun",
            &[Model::Vm],
            device("/dev/net/tun", (10, 200), "load the module tun, or use `--network none`"),
        ),
        finding("nft", BOTH, program("nft", "--version", "nftables")),
        finding("virtiofsd", &[], virtiofsd()),
        finding("CAP_SYS_RESOURCE", &[], sys_resource()),
    ]
}

fn kernel() -> Result<String, String> {
    Ok(read("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

fn is_root() -> Result<String, String> {
    match rustix::process::geteuid().as_raw() {
        0 => Ok("yes".to_owned()),
        uid => Err(format!("user {uid}; run carve as root")),
    }
}

fn data_root(root: &Path) -> Result<String, String> {
    fs::create_dir_all(root)
        .map_err(|e| format!("cannot make {}: {e}; choose another by --root", root.display()))?;
    let stat = rustix::fs::statvfs(root).map_err(|e| format!("{}: {e}", root.display()))?;
    Ok(format!("{}, {} free", root.display(), format::bytes(stat.f_bavail * stat.f_frsize)))
}

fn namespaces() -> Result<String, String> {
    let missing: Vec<_> = ["mnt", "pid", "net", "uts", "ipc"]
        .into_iter()
        .filter(|ns| !Path::new("/proc/self/ns").join(ns).exists())
        .collect();
    if missing.is_empty() {
        return Ok("mount, pid, network, uts, ipc".to_owned());
    }
    Err(format!("no {} namespace; the host's kernel was built without", missing.join(", ")))
}

fn file_system(name: &str) -> Result<String, String> {
    let known = |text: &str| text.lines().any(|l| l.split_whitespace().last() == Some(name));
    if known(&read("/proc/filesystems")?) {
        return Ok("present".to_owned());
    }
    // A module that is loaded when first used.
    let status = Command::new("modprobe").arg(name).output();
    if status.is_ok_and(|o| o.status.success()) && known(&read("/proc/filesystems")?) {
        return Ok("present, as a module".to_owned());
    }
    Err(format!("this kernel does not know {name}; load the module {name} or use a kernel that has it"))
}

fn cgroups() -> Result<String, String> {
    let hierarchy = Hierarchy::detect(Path::new("/")).map_err(|e| e.to_string())?;
    let v1 = hierarchy.v1.iter().flat_map(|tree| tree.controllers.iter());
    let v2 = hierarchy.v2.iter().flat_map(|tree| tree.controllers.iter());
    let controllers: Vec<_> = v1.chain(v2).map(String::as_str).collect();
    let kind = match hierarchy.kind() {
        HierarchyKind::None => return Err("none are mounted; mount cgroup2 at /sys/fs/cgroup".to_owned()),
        HierarchyKind::V1 => "version 1",
        HierarchyKind::Hybrid => "hybrid",
        HierarchyKind::V2 => "version 2",
    };
    let missing: Vec<_> =
        ["memory", "cpu", "pids"].into_iter().filter(|c| !controllers.contains(c)).collect();
    if missing.is_empty() {
        return Ok(format!("{kind}: {}", controllers.join(" ")));
    }
    Ok(format!("{kind}: {}; without {} their limits are refused", controllers.join(" "), missing.join(", ")))
}

fn seccomp() -> Result<String, String> {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail")
        .map_err(|_| "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)".to_owned())?;
    Ok(actions.trim().to_owned())
}

/// Whether a device can be opened and is the one that has these numbers (the kernel's `admin-guide/devices.txt`).
fn device(path: &str, numbers: (u32, u32), hint: &str) -> Result<String, String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .and_then(|file: File| file.metadata())
        .map_err(|e| format!("{e}; {hint}"))
        .and_then(|metadata| match (major(metadata.rdev()), minor(metadata.rdev())) {
            found if found == numbers => Ok("opens".to_owned()),
            (major, minor) => {
                Err(format!("it is device {major}:{minor} and not {}:{}; {hint}", numbers.0, numbers.1))
            }
        })
}

fn hardware_virtualisation() -> Result<String, String> {
    let info = read("/proc/cpuinfo")?;
    let flags = info.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    match flags.split_whitespace().find(|f| matches!(*f, "vmx" | "svm")) {
        Some("vmx") => Ok("VT-x".to_owned()),
        Some(_) => Ok("SVM".to_owned()),
        None => Err("none: guests' kernels run slower; look in the firmware, or ask the cloud for nested virtualisation".to_owned()),
    }
}

/// What `--engine auto` takes, and why.
fn engine() -> String {
    match Engine::Auto.on_this_host() {
        Engine::Soft => "auto takes soft: it interprets guests' kernels, which kvm would only emulate here",
        _ => "auto takes kvm: the hardware runs guests' kernels",
    }
    .to_owned()
}

fn guest_kernel() -> Result<String, String> {
    guest::search()
        .map(|dir| dir.display().to_string())
        .ok_or_else(|| "not built; run `cargo xtask setup`".to_owned())
}

fn program(name: &str, version: &str, package: &str) -> Result<String, String> {
    match Command::new(name).arg(version).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or("present").to_owned())
        }
        Err(e) => Err(format!("{e}; install the package {package}")),
    }
}

/// What shares directories with virtual machines (`carve vm boot --fs`).
fn virtiofsd() -> Result<String, String> {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|binary| Some(binary.parent()?.parent()?.join("tools/virtiofsd")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("virtiofsd"));
    let installed = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"].map(PathBuf::from);
    let found = beside.into_iter().chain(in_path).chain(installed).find(|file| file.is_file());
    found.map(|file| file.display().to_string()).ok_or_else(|| {
        "not there, and without it no directory can be shared with a VM (--fs); `cargo xtask setup` builds it"
            .to_owned()
    })
}

fn sys_resource() -> Result<String, String> {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = read("/proc/self/status")?;
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap_or_default().trim();
    let bounding = u64::from_str_radix(bounding, 16).map_err(|e| format!("CapBnd: {e}"))?;
    if bounding >> CAP_SYS_RESOURCE & 1 == 1 {
        return Ok("in the bounding set".to_owned());
    }
    Err("not in the bounding set: limits above the hard limit are clamped to it".to_owned())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}
