//! `cargo xtask agent`: the agent as a static binary, alone in an uncompressed initramfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{capture, cargo, run};
use crate::cpio::{Entry, archive};
use crate::progress::{Outcome, say};
use crate::workspace;

/// What the static binaries are built for: named, so that the flags do not reach build scripts and procedural macros.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What the agent is built for, where the toolchain has it: musl is half the size of glibc, and each 4 KiB of an initramfs
/// cost a boot some 3,000 instructions.
const SMALL_TARGET: &str = "x86_64-unknown-linux-musl";
/// Static, as nothing else is in the initramfs. At a fixed address, so that no page is touched for relocation only;
/// small and without unwinding, as every page that is loaded or touched costs a guest milliseconds where its kernel
/// is emulated.
const FLAGS: [&str; 5] = [
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
    "-Copt-level=z",
    "-Cstrip=symbols",
];

/// Builds `target/guest/initramfs.cpio` and returns its path. What has not changed is not written again.
///
/// # Errors
/// The build's own.
pub(crate) fn build() -> Result<PathBuf> {
    let target = target()?;
    let mut command = cargo();
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "agent",
            "--bin",
            "carve-agent",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(workspace::target(""))
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    run(&mut command)?;
    let binary = workspace::target(target).join("release/carve-agent");
    let data = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let bytes =
        archive(&[Entry { name: "init", mode: 0o755, data: &data }]).context("the agent is too large")?;
    let path = workspace::target("guest/initramfs.cpio");
    if fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(path);
    }
    let dir = workspace::target("guest");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let part = path.with_extension("cpio.part");
    fs::write(&part, &bytes).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, &path)
        .with_context(|| format!("cannot rename {} to {}", part.display(), path.display()))?;
    Ok(path)
}

/// The target with the smaller C library, if its standard library is installed.
fn target() -> Result<&'static str> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", SMALL_TARGET]).current_dir(workspace::root());
    let printed = capture(&mut rustc)?;
    let dir = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    Ok(if printed.status.success() && Path::new(&dir).is_dir() { SMALL_TARGET } else { TARGET })
}

/// Installs the standard library for the target with the smaller C library. Without rustup, or without network, the
/// agent is built with the larger one.
///
/// # Errors
/// `rustc` cannot be started.
pub(crate) fn install_target() -> Result<Outcome> {
    if target()? == SMALL_TARGET {
        return Ok(Outcome::Cached);
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", SMALL_TARGET]).current_dir(workspace::root());
    if !capture(&mut rustup).is_ok_and(|printed| printed.status.success()) {
        say("agent", &format!("{SMALL_TARGET} cannot be installed; the agent is built for {TARGET}"));
    }
    Ok(Outcome::Done)
}
