//! Kernel parameters, as far as a namespace of the container's own holds them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use super::namespaces::Namespaces;
use super::{PlanError, invalid};

/// A parameter to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SysctlPlan {
    /// The file below /proc/sys.
    pub(crate) path: PathBuf,
    pub(crate) value: String,
}

/// Checks that each parameter belongs to a namespace the container does not share with the host.
pub(crate) fn plan<'a>(
    sysctls: impl Iterator<Item = (&'a String, &'a String)>,
    namespaces: &Namespaces,
) -> Result<Vec<SysctlPlan>, PlanError> {
    sysctls
        .map(|(name, value)| {
            let field = || format!("linux.sysctl.{name}");
            let path =
                path(name).ok_or_else(|| invalid(field(), value, "is no name of a kernel parameter"))?;
            if path == Path::new("kernel/hostname") {
                return Err(invalid(field(), value, "is what the field hostname is for; use that"));
            }
            let owner = owner(&path)
                .ok_or_else(|| invalid(field(), value, "belongs to the whole host, not to a container"))?;
            if !namespaces.has_own(owner) {
                return Err(invalid(
                    field(),
                    value,
                    "needs a network, ipc or uts namespace of the container's own",
                ));
            }
            Ok(SysctlPlan { path: Path::new("/proc/sys").join(path), value: value.clone() })
        })
        .collect()
}

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding`, as a relative path (sysctl(8)).
fn path(name: &str) -> Option<PathBuf> {
    let first = name.find(['.', '/'])?;
    let swap = name.as_bytes()[first] == b'.';
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' if swap => '/',
            '/' if swap => '.',
            other => other,
        })
        .collect();
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.split('/').all(plain).then(|| path.into())
}

fn owner(path: &Path) -> Option<LinuxNamespaceType> {
    let ipc = ["kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall"];
    let more_ipc = ["kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"];
    if path.starts_with("net") {
        Some(LinuxNamespaceType::Network)
    } else if path.starts_with("fs/mqueue") || ipc.iter().chain(&more_ipc).any(|p| path == Path::new(p)) {
        Some(LinuxNamespaceType::Ipc)
    } else if path == Path::new("kernel/domainname") {
        Some(LinuxNamespaceType::Uts)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_name_the_same_parameter() {
        assert_eq!(path("net.ipv4.ip_forward"), Some("net/ipv4/ip_forward".into()));
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), Some("net/ipv4/conf/eth0.1/forwarding".into()));
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), Some("net/ipv4/conf/eth0.1/forwarding".into()));
    }

    #[test]
    fn names_that_climb_or_belong_to_the_host_are_refused() {
        let namespaces = Namespaces {
            clone_flags: (libc::CLONE_NEWNET | libc::CLONE_NEWIPC).unsigned_abs().into(),
            ..Namespaces::default()
        };
        for name in
            ["net/../kernel/core_pattern", "net//x", "kernel.core_pattern", "vm.swappiness", "net", ""]
        {
            let sysctl = (name.to_owned(), "1".to_owned());
            assert!(plan([(&sysctl.0, &sysctl.1)].into_iter(), &namespaces).is_err(), "{name}");
        }
    }

    #[test]
    fn each_namespace_has_its_parameters() {
        use LinuxNamespaceType::{Ipc, Network, Uts};
        for (name, kind) in [
            ("net.core.somaxconn", Network),
            ("net/ipv6/conf/all/disable_ipv6", Network),
            ("kernel.msgmax", Ipc),
            ("kernel.msgmnb", Ipc),
            ("kernel.msgmni", Ipc),
            ("kernel.sem", Ipc),
            ("kernel.shmall", Ipc),
            ("kernel.shmmax", Ipc),
            ("kernel.shmmni", Ipc),
            ("kernel.shm_rmid_forced", Ipc),
            ("fs.mqueue.msg_max", Ipc),
            ("kernel.domainname", Uts),
        ] {
            let sysctl = (name.to_owned(), "1".to_owned());
            let with = |clone_flags| Namespaces { clone_flags, ..Namespaces::default() };
            let all = (libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS).unsigned_abs();
            let planned = |clone_flags| plan([(&sysctl.0, &sysctl.1)].into_iter(), &with(clone_flags));
            assert!(planned(kind as u64).is_ok(), "{name}");
            assert!(planned(u64::from(all) & !(kind as u64)).is_err(), "{name}");
        }
    }

    #[test]
    fn the_host_name_is_not_set_as_a_parameter() {
        let sysctl = ("kernel.hostname".to_owned(), "x".to_owned());
        let own = Namespaces { clone_flags: libc::CLONE_NEWUTS as u64, ..Namespaces::default() };
        let error = plan([(&sysctl.0, &sysctl.1)].into_iter(), &own).unwrap_err().to_string();
        assert!(error.contains("use that"), "{error}");
    }

    #[test]
    fn a_parameter_of_a_shared_namespace_is_refused() {
        let sysctl = ("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        assert!(plan([(&sysctl.0, &sysctl.1)].into_iter(), &Namespaces::default()).is_err());
    }
}
