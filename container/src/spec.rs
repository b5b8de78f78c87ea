//! The default `config.json`, in the shape of Docker's: what a container gets when nothing else is asked for.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType,
    LinuxResources, Mount, Process, Root, Spec,
};

use crate::seccomp::default_profile;

/// The capabilities that a container's root has.
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Parts of /proc and /sys that tell or change what is the host's.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Parts of /proc that may be read and not written.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The mounts of every container: destination, type, source, options.
const MOUNTS: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
];

/// The default configuration: `sh` as root in `rootfs`, with namespaces, capabilities, mounts, device rules and
/// seccomp profile as Docker has them.
///
/// The caller sets what is its own: `process.args`, `env`, `cwd` and `user`, `hostname`, `root`, further mounts
/// and limits.
pub fn default_spec() -> Spec {
    let capabilities = HashSet::from(DEFAULT_CAPABILITIES);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces()))
        .set_devices(None)
        .set_resources(Some(resources()))
        .set_masked_paths(Some(MASKED_PATHS.map(str::to_owned).to_vec()))
        .set_readonly_paths(Some(READONLY_PATHS.map(str::to_owned).to_vec()))
        .set_seccomp(Some(default_profile(&capabilities)));
    let mut spec = Spec::default();
    spec.set_version(crate::SPEC_VERSION.to_owned())
        .set_hostname(None)
        .set_annotations(None)
        .set_root(Some(root()))
        .set_process(Some(process(capabilities)))
        .set_mounts(Some(MOUNTS.iter().map(mount).collect()))
        .set_linux(Some(linux));
    spec
}

/// The same for the calling user, who need not be root: in a user namespace where only that one exists, as root.
pub fn rootless_spec() -> Spec {
    let mut spec = default_spec();
    if let Some(linux) = spec.linux_mut() {
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User).set_path(None);
        let namespaces = namespaces().into_iter().chain([user]).collect();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mapped = Linux::rootless(uid, gid);
        linux
            .set_namespaces(Some(namespaces))
            .set_uid_mappings(mapped.uid_mappings().clone())
            .set_gid_mappings(mapped.gid_mappings().clone())
            .set_resources(None);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        // The group of terminals is not mapped.
        let options = mount.options().iter().flatten().filter(|option| *option != "gid=5").cloned().collect();
        mount.set_options(Some(options));
    }
    spec
}

fn root() -> Root {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(false));
    root
}

fn process(capabilities: HashSet<Capability>) -> Process {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_effective(Some(capabilities.clone()))
        .set_permitted(Some(capabilities))
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_args(Some(vec!["sh".to_owned()]))
        .set_env(Some(vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]))
        .set_cwd("/".into())
        .set_capabilities(Some(sets))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true));
    process
}

fn namespaces() -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    [Mount, Network, Uts, Pid, Ipc, Cgroup]
        .map(|typ| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(typ).set_path(None);
            namespace
        })
        .to_vec()
}

/// No device may be touched but those every container has; the runtime adds these itself.
fn resources() -> LinuxResources {
    let mut deny_all = LinuxDeviceCgroup::default();
    deny_all.set_allow(false).set_typ(None).set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![deny_all]));
    resources
}

fn mount(&(destination, fs_type, options): &(&str, &str, &[&str])) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(fs_type.to_owned()))
        .set_source(Some(fs_type.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_what_others_expect() {
        let mut spec = default_spec();
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(None);
        }
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["process"]["noNewPrivileges"], true);
        assert_eq!(json["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert!(json["process"]["capabilities"].get("ambient").is_none());
        assert_eq!(json["linux"]["resources"]["devices"][0]["allow"], false);
        assert_eq!(json["linux"]["namespaces"][5]["type"], "cgroup");
        assert_eq!(json["mounts"][0]["destination"], "/proc");
        assert!(json.get("hooks").is_none());
    }
}
