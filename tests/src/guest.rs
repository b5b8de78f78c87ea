//! The guest kernel, small initramfs archives for machines without an image, and the program that examines a machine
//! from within (`src/bin/guest-checks`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::workspace;

/// The guest kernel, if it was built.
#[must_use]
pub fn kernel() -> Option<PathBuf> {
    let kernel =
        std::env::var_os("CARVE_GUEST_DIR").map_or_else(|| workspace().join("target/guest"), PathBuf::from);
    Some(kernel.join("vmlinux")).filter(|k| k.is_file())
}

/// Writes an initramfs to `dir` whose `/init` is this shell script, run by Debian's static busybox.
///
/// # Panics
/// When `cpio` or `busybox` is missing; `cargo xtask setup` installs them.
#[must_use]
pub fn initramfs_with(dir: &Path, script: &str) -> PathBuf {
    let init = format!("#!/bin/busybox sh\n{script}\n");
    archive(dir, init.as_bytes(), |tree| {
        fs::create_dir(tree.join("bin")).expect("a directory");
        fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    })
}

/// Writes an initramfs to `dir` whose `/init` is `guest-checks`, and nothing else is in it.
///
/// # Panics
/// When the program does not build, or `cpio` is missing; `cargo xtask setup` installs that.
#[must_use]
pub fn initramfs_of_checks(dir: &Path) -> PathBuf {
    let init = fs::read(build_checks()).expect("cargo has built it");
    archive(dir, &init, |_| {})
}

/// Builds `guest-checks` as a static binary; done in a moment when nothing has changed.
fn build_checks() -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target_dir =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "tests",
            "--bin",
            "guest-checks",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(workspace())
        // The flags of the product's static binary, with which it shares what it is built of.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    assert!(cargo.status().expect("cargo runs").success(), "guest-checks does not build");
    target_dir.join(TARGET).join("release/guest-checks")
}

fn archive(dir: &Path, init: &[u8], fill: impl FnOnce(&Path)) -> PathBuf {
    let tree = dir.join("initramfs");
    for name in ["proc", "sys", "dev", "mnt"] {
        fs::create_dir_all(tree.join(name)).expect("a directory");
    }
    fs::write(tree.join("init"), init).expect("an init");
    fs::set_permissions(tree.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("executable");
    fill(&tree);
    let archive = dir.join("initramfs.cpio");
    let packed = Command::new("sh")
        .args(["-c", "find . | cpio --quiet -o -H newc > \"$0\""])
        .arg(&archive)
        .current_dir(&tree)
        .status()
        .expect("sh runs");
    assert!(packed.success());
    archive
}
