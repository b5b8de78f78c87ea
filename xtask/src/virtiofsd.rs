//! `virtiofsd`, which shares directories of the host with virtual machines: built from crates.io once, kept outside the
//! tree by its version.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{cargo, run_quietly};
use crate::kernel::cache_dir;
use crate::progress::{Outcome, say};
use crate::workspace;

/// The version that the tests were run with.
const VERSION: &str = "1.14.0";
const NAME: &str = "virtiofsd";

/// Puts `target/tools/virtiofsd` there, built if the cache has none of this version.
///
/// # Errors
/// The build's own; or the cache cannot be written.
pub(crate) fn install() -> Result<Outcome> {
    let cache = cache_dir()?.join(NAME);
    let kept = cache.join(VERSION);
    let outcome = if kept.join("bin").join(NAME).is_file() { Outcome::Cached } else { build(&cache, &kept)? };
    let tools = workspace::target("tools");
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    publish(&kept.join("bin").join(NAME), &tools.join(NAME))?;
    Ok(outcome)
}

/// Builds it in a place beside and moves it in whole. One build at a time.
fn build(cache: &Path, kept: &Path) -> Result<Outcome> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = cache.join("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot wait for another build of virtiofsd")?;
    if kept.join("bin").join(NAME).is_file() {
        return Ok(Outcome::Cached);
    }
    say("virtiofsd", &format!("building version {VERSION}; once, one to four minutes"));
    let work = cache.join("work");
    let mut command = cargo();
    command
        .args(["install", NAME, "--locked", "--force", "--version", VERSION, "--root"])
        .arg(work.join("root"))
        .arg("--target-dir")
        .arg(work.join("target"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run_quietly("building virtiofsd", &mut command)?;
    if kept.exists() {
        fs::remove_dir_all(kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::rename(work.join("root"), kept).with_context(|| format!("cannot make {}", kept.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    Ok(Outcome::Done)
}

/// Puts the program where tests and `carve doctor` look, by rename: an older one may be running.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    fs::copy(from, &part).with_context(|| format!("cannot copy {} to {}", from.display(), part.display()))?;
    fs::rename(&part, to).with_context(|| format!("cannot rename {} to {}", part.display(), to.display()))
}
