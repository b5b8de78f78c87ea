//! The guest's initramfs, from `guest-images/engines/` and Debian's busybox: `target/engines/initramfs.cpio`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::cpio::{Entry, archive};
use crate::workspace;

const RECIPE: &str = "guest-images/engines";
/// Where Debian's busybox-static is.
const BUSYBOX: &str = "/bin/busybox";

/// Builds the archive and returns its path.
///
/// # Errors
/// The compiler's own, and files that cannot be read or written.
pub(crate) fn build() -> Result<PathBuf> {
    let out = workspace::target("engines");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let recipe = workspace::root().join(RECIPE);
    let calls = out.join("calls");
    run(Command::new("cc")
        .args(["-O2", "-Wall", "-static", "-s", "-o"])
        .arg(&calls)
        .arg(recipe.join("calls.c")))?;
    let (init, busybox, calls) = (read(&recipe.join("init"))?, read(Path::new(BUSYBOX))?, read(&calls)?);
    let executable = |name, data| Entry { name, mode: 0o755, data };
    let bytes =
        archive(&[executable("init", &init), executable("busybox", &busybox), executable("calls", &calls)])
            .context("the guest's programs are too large for an initramfs")?;
    let path = out.join("initramfs.cpio");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
