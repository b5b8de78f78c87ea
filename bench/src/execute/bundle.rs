//! A bundle of the OCI runtime specification (1.0.2, config.md) for a peer: the same root file system, command and
//! limits that the binary is given, with Docker's default capabilities, mounts and hidden paths.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ExecuteError;
use crate::options::{Options, memory_bytes};

/// What Docker leaves to root in a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The scheduler's period, in microseconds.
const CPU_PERIOD_US: u32 = 100_000;

/// The cgroup of a peer's instance: of one level, as a peer removes no more than that.
const CGROUP: &str = "/carve-bench-peer";

/// Where the peer's instance has its cgroup, in each hierarchy of this host.
pub(super) fn cgroups() -> Vec<PathBuf> {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return Vec::new() };
    let name = CGROUP.trim_start_matches('/');
    let root = PathBuf::from("/sys/fs/cgroup").join(name);
    let found = hierarchies.flatten().map(|hierarchy| hierarchy.path().join(name)).chain([root]);
    found.filter(|path| path.is_dir()).collect()
}

/// Writes `config.json` into the bundle at `directory`, whose root file system is in `rootfs` beside it.
pub(super) fn write(options: &Options, directory: &Path) -> Result<(), ExecuteError> {
    let path = directory.join("config.json");
    let text =
        serde_json::to_vec_pretty(&config(options)).expect("plain data with string keys always serialises");
    fs::write(&path, text).map_err(|source| ExecuteError::File { doing: "write", path, source })
}

fn config(options: &Options) -> Value {
    json!({
        // crun 1.8 rejects anything from 1.1 on.
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": options.command,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "bench",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": CGROUP,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "resources": resources(options),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ])
}

fn resources(options: &Options) -> Value {
    let mut resources = json!({});
    if let Some(limit) = options.memory.as_deref().and_then(memory_bytes) {
        resources["memory"] = json!({"limit": limit});
    }
    if let Some(cpus) = options.cpus {
        let quota = (cpus * f64::from(CPU_PERIOD_US)).round();
        resources["cpu"] = json!({"quota": quota_us(quota), "period": CPU_PERIOD_US});
    }
    resources
}

/// A whole number in JSON, which crun insists on.
fn quota_us(quota: f64) -> Value {
    format!("{quota:.0}").parse::<u64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Runtime;

    fn options() -> Options {
        Options {
            command: vec!["echo".into(), "ready".into()],
            memory: Some("64m".into()),
            cpus: Some(1.5),
            runtimes: vec![Runtime::Crun],
            ..Options::new("carve".into(), "demo")
        }
    }

    #[test]
    fn carries_the_command_and_the_limits() {
        let config = config(&options());
        assert_eq!(config["process"]["args"], json!(["echo", "ready"]));
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], json!(64 << 20));
        assert_eq!(config["linux"]["resources"]["cpu"], json!({"quota": 150_000, "period": 100_000}));
    }

    #[test]
    fn a_limit_that_was_not_given_is_not_there() {
        let config = config(&Options { memory: None, cpus: None, ..options() });
        assert_eq!(config["linux"]["resources"], json!({}));
    }
}
