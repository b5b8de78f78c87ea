//! Reads the host's facts from `/proc`, `/sys` and `/dev`, all below a root that tests replace.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Environment, Fact, Kvm};

/// The host's facts. `root` is `/` outside of tests; `data_root` is the directory whose file system matters.
pub(crate) fn read(root: &Path, data_root: Option<&Path>) -> Environment {
    let host = Host { root: root.to_owned() };
    let cpuinfo = host.text("proc/cpuinfo").unwrap_or_default();
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        facts.extend(value.filter(|v| !v.is_empty()).map(|value| Fact { name: name.to_owned(), value }));
    };
    add("CPU", cpu_field(&cpuinfo, "model name"));
    add("CPUs", Some(cpuinfo.lines().filter(|line| line.starts_with("processor")).count().to_string()));
    add("microcode", cpu_field(&cpuinfo, "microcode"));
    add("SMT active", host.line("sys/devices/system/cpu/smt/active").map(|v| yes_no(&v)));
    add("frequency governor", host.line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add("mitigations", mitigations(&host));
    add("memory", host.text("proc/meminfo").and_then(|text| meminfo_mib(&text, "MemTotal:")));
    add("swap", host.text("proc/meminfo").and_then(|text| meminfo_mib(&text, "SwapTotal:")));
    add("virtualised", Some(if has_flag(&cpuinfo, "hypervisor") { "yes".into() } else { "no".into() }));
    add("machine", machine(&host));
    add("KVM module", kvm_modules(&host));
    add("kernel", host.line("proc/sys/kernel/osrelease"));
    add("kernel build", host.line("proc/sys/kernel/version"));
    add("kernel command line", host.line("proc/cmdline").map(|line| kernel_part(&line)));
    add("clock source", host.line("sys/devices/system/clocksource/clocksource0/current_clocksource"));
    add("cgroup version", host.text("proc/self/mounts").map(|mounts| cgroup_version(&mounts).to_owned()));
    add("file system of the data root", file_system(&host, data_root));
    add(
        "transparent huge pages",
        host.line("sys/kernel/mm/transparent_hugepage/enabled").map(|v| chosen(&v)),
    );
    add("KSM running", host.line("sys/kernel/mm/ksm/run").map(|v| yes_no(&v)));
    Environment { kvm: kvm(&host, &cpuinfo), facts, load_before: load(root), load_after: None, doctor: None }
}

/// The three load averages.
pub(crate) fn load(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/loadavg")).ok()?;
    Some(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

struct Host {
    root: PathBuf,
}

impl Host {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn line(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned())
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

fn kvm(host: &Host, cpuinfo: &str) -> Kvm {
    if !host.exists("dev/kvm") {
        Kvm::None
    } else if has_flag(cpuinfo, "vmx") || has_flag(cpuinfo, "svm") {
        Kvm::Hardware
    } else {
        Kvm::NoHardware
    }
}

fn kvm_modules(host: &Host) -> Option<String> {
    let present =
        ["kvm_intel", "kvm_amd", "kvm_pvm"].into_iter().filter(|m| host.exists(&format!("sys/module/{m}")));
    Some(present.collect::<Vec<_>>().join(", "))
}

fn machine(host: &Host) -> Option<String> {
    let parts = ["sys_vendor", "product_name"].map(|name| host.line(&format!("sys/class/dmi/id/{name}")));
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

fn cpu_field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    cpu_field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|f| f == flag))
}

fn mitigations(host: &Host) -> Option<String> {
    let directory = host.root.join("sys/devices/system/cpu/vulnerabilities");
    let mut found: Vec<String> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().to_str()?.to_owned();
            (!state.starts_with("Not affected")).then(|| format!("{name}: {}", state.trim()))
        })
        .collect();
    found.sort_unstable();
    Some(if found.is_empty() { "none needed".to_owned() } else { found.join("; ") })
}

fn meminfo_mib(meminfo: &str, field: &str) -> Option<String> {
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()?;
    Some(if kib == 0 { "none".to_owned() } else { format!("{} MiB", kib / 1024) })
}

fn cgroup_version(mounts: &str) -> &'static str {
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "1, with 2 beside it (hybrid)",
        (true, false) => "1",
        (false, true) => "2",
        (false, false) => "none mounted",
    }
}

/// The type and options of the mount that holds the data root: the longest mount point that is a prefix of it.
fn file_system(host: &Host, data_root: Option<&Path>) -> Option<String> {
    let wanted = fs::canonicalize(data_root?).ok()?;
    let mounts = host.text("proc/self/mounts")?;
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        wanted.starts_with(point).then(|| (point.len(), format!("{kind} ({options})")))
    });
    // Of equally long ones the last mounted is on top.
    holding.max_by_key(|(length, _)| *length).map(|(_, name)| name)
}

/// The chosen one of `always [madvise] never`.
fn chosen(line: &str) -> String {
    line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(line, |(word, _)| word).to_owned()
}

fn yes_no(value: &str) -> String {
    if value == "0" { "no" } else { "yes" }.to_owned()
}

/// A kernel command line is shown without what follows ` -- `: that is for init, not for the kernel.
fn kernel_part(line: &str) -> String {
    line.split(" -- ").next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a file in a directory")).expect("made");
            fs::write(path, content).expect("written");
        }
        dir
    }

    #[test]
    fn tells_the_kinds_of_kvm_apart() {
        let hardware = ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse\n");
        let emulated = ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor sse\n");
        let device = ("dev/kvm", "");
        for (files, expected) in [
            (vec![hardware, device], Kvm::Hardware),
            (vec![emulated, device], Kvm::NoHardware),
            (vec![hardware], Kvm::None),
        ] {
            assert_eq!(read(host(&files).path(), None).kvm, expected);
        }
    }

    #[test]
    fn reads_facts_and_leaves_out_what_is_not_there() {
        let dir = host(&[
            ("proc/cpuinfo", "processor : 0\nmodel name\t: A CPU\nflags : fpu\nprocessor : 1\n"),
            ("proc/meminfo", "MemTotal:  2097152 kB\nSwapTotal:  0 kB\n"),
            ("proc/self/mounts", "cgroup /sys/fs/cgroup/memory cgroup rw 0 0\nc /u cgroup2 rw 0 0\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/vulnerabilities/srso", "Mitigation: Safe RET\n"),
            ("sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n"),
            ("proc/loadavg", "0.10 0.20 0.30 1/99 1234\n"),
        ]);
        let environment = read(dir.path(), None);
        for (name, expected) in [
            ("CPU", Some("A CPU")),
            ("CPUs", Some("2")),
            ("memory", Some("2048 MiB")),
            ("swap", Some("none")),
            ("cgroup version", Some("1, with 2 beside it (hybrid)")),
            ("transparent huge pages", Some("madvise")),
            ("mitigations", Some("srso: Mitigation: Safe RET")),
            ("microcode", None),
            ("clock source", None),
        ] {
            assert_eq!(environment.fact(name), expected, "{name}");
        }
        assert_eq!(environment.load_before.as_deref(), Some("0.10 0.20 0.30"));
    }

    #[test]
    fn init_arguments_are_not_shown() {
        assert_eq!(kernel_part("quiet panic=1 -- --token abc"), "quiet panic=1");
    }
}
