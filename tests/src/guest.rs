//! The guest kernel, and small initramfs archives for machines without an image.

use std::{
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
    let tree = dir.join("initramfs");
    for name in ["bin", "proc", "sys", "dev", "mnt"] {
        std::fs::create_dir_all(tree.join(name)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    let init = tree.join("init");
    std::fs::write(&init, format!("#!/bin/busybox sh\n{script}\n")).expect("an init");
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
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
