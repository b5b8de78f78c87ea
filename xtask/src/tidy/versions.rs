//! One version of each rust-vmm crate: two would have types of the same name that do not fit each other.

use std::collections::BTreeMap;

const SINGLE: [&str; 14] = [
    "acpi_tables",
    "event-manager",
    "kvm-bindings",
    "kvm-ioctls",
    "linux-loader",
    "seccompiler",
    "vhost",
    "virtio-bindings",
    "virtio-queue",
    "virtio-vsock",
    "vm-allocator",
    "vm-memory",
    "vm-superio",
    "vmm-sys-util",
];

/// Finds second versions in the text of `Cargo.lock`.
pub(crate) fn check(lock: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"'))
        };
        if let (Some(name), Some(version)) = (field("name"), field("version")) {
            versions.entry(name).or_default().push(version);
        }
    }
    let double = versions.into_iter().filter(|(name, versions)| SINGLE.contains(name) && versions.len() > 1);
    double
        .map(|(name, versions)| format!("Cargo.lock has {name} in versions {}", versions.join(" and ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_version_of_a_rust_vmm_crate_is_found_and_of_another_is_not() {
        let package = |name: &str, version: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n")
        };
        let lock = [
            package("rand", "0.9.0"),
            package("rand", "0.10.0"),
            package("vm-memory", "0.17.1"),
            package("vm-memory", "0.18.0"),
            package("vhost", "0.18.0"),
        ]
        .concat();
        assert_eq!(check(&lock), ["Cargo.lock has vm-memory in versions 0.17.1 and 0.18.0"]);
    }
}
