//! `cargo xtask agent`: the agent as a static binary, alone in an uncompressed initramfs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{cargo, run};
use crate::cpio::{Entry, archive};
use crate::workspace;

/// What the static binaries are built for: named, so that the flags do not reach build scripts and procedural macros.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Static, as nothing else is in the initramfs. At a fixed address, so that no page is touched for relocation only;
/// small and without unwinding, as every page that is loaded or touched costs a guest milliseconds where its kernel
/// is emulated.
const FLAGS: [&str; 5] = [
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Cstrip=symbols",
];

/// Builds `target/guest/initramfs.cpio` and returns its path. What has not changed is not written again.
///
/// # Errors
/// The build's own.
pub(crate) fn build() -> Result<PathBuf> {
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
            TARGET,
        ])
        .arg("--target-dir")
        .arg(workspace::target(""))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    run(&mut command)?;
    let binary = workspace::target(TARGET).join("release/carve-agent");
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
