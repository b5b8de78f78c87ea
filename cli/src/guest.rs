//! Where the guest kernel and the agent's initramfs are: a flag, the environment, or beside the binary.

use std::path::{Path, PathBuf};

use anyhow::Context;
use engine::Guest;

use crate::engine_flag::EngineFlag;
use crate::jail_flag::JailFlag;

/// Directories to look in, after `CARVE_GUEST_DIR` and those beside the binary.
const INSTALLED: &str = "/usr/lib/carve/guest";
pub(crate) const KERNEL: &str = "vmlinux";
pub(crate) const INITRAMFS: &str = "initramfs.cpio";

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Guest kernel, with --vm [default: vmlinux of the guest directory]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Directory of vmlinux and initramfs.cpio, with --vm
    #[arg(long, env = "CARVE_GUEST_DIR", value_name = "DIR")]
    guest_dir: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineFlag,
    #[command(flatten)]
    jail: JailFlag,
}

impl Args {
    /// The guest's files; they exist.
    pub(crate) fn find(&self) -> anyhow::Result<Guest> {
        let dir = match &self.guest_dir {
            Some(dir) => dir.clone(),
            None => search().context(
                "no guest kernel was found; build one with `cargo xtask setup`, or name its directory by --guest-dir",
            )?,
        };
        let absolute = |path: PathBuf| {
            let path = std::path::absolute(&path).unwrap_or(path);
            anyhow::ensure!(
                path.is_file(),
                "there is no file {}; build it with `cargo xtask setup`",
                path.display()
            );
            Ok(path)
        };
        Ok(Guest {
            kernel: absolute(self.kernel.clone().unwrap_or_else(|| dir.join(KERNEL)))?,
            initramfs: absolute(dir.join(INITRAMFS))?,
            engine: self.engine.engine(),
            jail: self.jail.is_on(),
        })
    }
}

/// `target/guest` for a binary in `target/release`, `../lib/carve/guest` for an installed one.
pub(crate) fn search() -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?;
    let beside = binary.parent()?.parent()?;
    [beside.join("guest"), beside.join("lib/carve/guest"), PathBuf::from(INSTALLED)]
        .into_iter()
        .find(|dir| is_guest_dir(dir))
}

fn is_guest_dir(dir: &Path) -> bool {
    dir.join(KERNEL).is_file() && dir.join(INITRAMFS).is_file()
}
