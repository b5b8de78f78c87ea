//! The Debian packages that building, running and testing need, and why.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{capture, line, run_quietly};
use crate::progress::{Outcome, say};

/// A package and what it is for.
pub(crate) struct Package {
    name: &'static str,
    reason: &'static str,
}

const fn package(name: &'static str, reason: &'static str) -> Package {
    Package { name, reason }
}

/// What building, running and testing need.
pub(crate) const BUILDING: &[Package] = &[
    package("build-essential", "compiles the guest kernel and the C parts of crates"),
    package("flex", "builds the guest kernel's configuration tool"),
    package("bison", "builds the guest kernel's configuration tool"),
    package("bc", "computes constants in the guest kernel's build"),
    package("libelf-dev", "checks the guest kernel's objects"),
    package("xz-utils", "unpacks the guest kernel's source"),
    package("linux-source-6.1", "is the guest kernel's source"),
    package("libseccomp-dev", "confines virtiofsd, which shares directories with virtual machines"),
    package("libcap-ng-dev", "takes virtiofsd's capabilities away"),
    package("nftables", "publishes ports (carve run -p)"),
    package("iproute2", "makes networks for tests"),
    package("e2fsprogs", "formats a VM's read-write disk"),
    package("erofs-utils", "checks layer images in tests"),
    package("busybox-static", "is the demo image's base and the tests' guest programs"),
    package("cpio", "packs initramfs archives in tests"),
    package("qemu-system-common", "has the storage daemon that serves a disk in tests"),
    package("gdb", "debugs a guest's kernel in tests"),
    package("strace", "kills commands at chosen system calls in tests"),
    package("crun", "is the peer that container starts are compared with"),
    package("podman", "drives carve as its runtime in tests"),
    package("containerd", "drives carve as its runtime in tests"),
];

/// What the benchmark of the engines needs besides.
pub(crate) const ENGINES: &[Package] =
    &[package("qemu-system-x86", "is the peer that the software engine is compared with")];

/// What the benchmark of the container runtime needs.
pub(crate) const RUNTIMES: &[Package] = &[
    package("busybox-static", "is the program in the containers"),
    package("crun", "is the peer that container starts are compared with"),
    package("runc", "is the peer that container starts are compared with"),
];

/// Installs those that are missing, saying what and why.
///
/// # Errors
/// Not a Debian system, no root (the error holds the command to run), or apt-get's own.
pub(crate) fn install_missing(packages: &[Package]) -> Result<Outcome> {
    let installed = installed(packages)?;
    let missing: Vec<&Package> =
        packages.iter().filter(|package| !installed.iter().any(|name| name == package.name)).collect();
    if missing.is_empty() {
        return Ok(Outcome::Cached);
    }
    for Package { name, reason } in &missing {
        say("setup", &format!("  {name} is missing; it {reason}"));
    }
    let mut install = apt_get();
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(missing.iter().map(|package| package.name));
    if !is_root()? {
        bail!("installing packages needs root; run this and try again:\n  sudo {}", line(&install));
    }
    // The package lists may be absent or too old to name what the archive still has.
    if run_quietly("apt-get install", &mut install).is_err() {
        update_lists()?;
        run_quietly("apt-get install", &mut install)?;
    }
    Ok(Outcome::Done)
}

/// Fetches the package lists anew.
///
/// # Errors
/// No root, or apt-get's own.
pub(crate) fn update_lists() -> Result<()> {
    if !is_root()? {
        bail!("the package lists are missing or out of date; run this and try again:\n  sudo apt-get update");
    }
    run_quietly("apt-get update", apt_get().arg("update"))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The names of those packages that are installed.
fn installed(packages: &[Package]) -> Result<Vec<String>> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f=${binary:Package} ${db:Status-Status}\n"])
        .args(packages.iter().map(|package| package.name));
    // Fails when a package is unknown, and still prints the others.
    let output = capture(&mut query).context("carve's set-up is for Debian, where dpkg is")?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

/// The names in `name[:architecture] status` lines whose status is `installed`.
fn parse_installed(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let installed = lines.filter(|(_, status)| *status == "installed");
    installed.map(|(name, _)| name.split(':').next().unwrap_or(name).to_owned()).collect()
}

fn is_root() -> Result<bool> {
    let output = capture(Command::new("id").arg("-u"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let text = "bc installed\nlibelf-dev:amd64 installed\nflex config-files\nbison not-installed\n";
        assert_eq!(parse_installed(text), ["bc", "libelf-dev"]);
    }
}
