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

/// An ELF for the 64-bit boot protocol that is this code and nothing else.
#[must_use]
pub fn kernel_of(code: &[u8]) -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    const CODE: u64 = 120;
    let mut elf = Vec::new();
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([2u16, 62].map(u16::to_le_bytes).concat());
    elf.extend(1u32.to_le_bytes());
    elf.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1u32, 5].map(u32::to_le_bytes).concat());
    let len = code.len() as u64;
    elf.extend([CODE, ENTRY, ENTRY, len, len, 4096].map(u64::to_le_bytes).concat());
    elf.extend(code);
    elf
}
