//! `cargo xtask setup`: from a fresh checkout to everything that running, comparing and testing need.
//!
//! Every step looks first whether it was done, so a second run is quick and an interrupted one goes on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_command};
use crate::progress::{Outcome, say, step};
use crate::{agent, demo, kernel, packages, virtiofsd, workspace};

/// Sets up.
///
/// # Errors
/// The first step that fails, by name.
pub(crate) fn run() -> Result<()> {
    step("Debian packages", || packages::install_missing(packages::BUILDING))?;
    step("guest kernel", || kernel::build(false).map(|_| Outcome::Done))?;
    step("agent's target", agent::install_target)?;
    step("agent", || agent::build().map(|_| Outcome::Done))?;
    step("virtiofsd", virtiofsd::install)?;
    step("carve binary", build_carve)?;
    step("demo image", demo::import)?;
    say("setup", &format!("ready: {}", workspace::carve().display()));
    Ok(())
}

/// What a benchmark of the VMM needs: the binary, which is built unless it is given, and the guest kernel. A peer that cannot
/// be installed is said to be absent.
pub(crate) fn for_benchmark(who: &str, given: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    step("Debian packages", || packages::install_missing(packages::BUILDING))?;
    if let Err(error) = step("QEMU", || packages::install_missing(packages::ENGINES)) {
        say(who, &format!("{error:#}"));
    }
    let kernel = kernel::build(false)?;
    Ok((binary(given)?, kernel))
}

/// What a benchmark of the container runtime needs: the binary, which is built unless it is given. A peer that cannot be
/// installed is said to be absent.
pub(crate) fn for_container_benchmark(who: &str, given: Option<&Path>) -> Result<PathBuf> {
    if let Err(error) = step("crun and runc", || packages::install_missing(packages::RUNTIMES)) {
        say(who, &format!("{error:#}"));
    }
    if given.is_none() {
        step("Debian packages", || packages::install_missing(packages::BUILDING))?;
    }
    binary(given)
}

fn binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(carve) = given {
        // Commands run elsewhere than here.
        return carve.canonicalize().with_context(|| format!("there is no {}", carve.display()));
    }
    step("carve binary", build_carve)?;
    Ok(workspace::carve())
}

/// The binary is static: nothing is resolved at its start, which happens twice in every run, and no library's pages are
/// mapped into every monitor.
/// Where it is loaded at is added to thousands of addresses then: packed, the list of these is a hundredth as long.
const FLAGS: &str = "-Ctarget-feature=+crt-static\x1f-Clink-arg=-Wl,-z,pack-relative-relocs";

/// Cargo knows what has to be built, and shows it.
pub(crate) fn build_carve() -> Result<Outcome> {
    let mut command = cargo();
    command
        .args(["build", "--release", "--package", "cli", "--target", agent::TARGET, "--target-dir"])
        .arg(workspace::target(""))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS);
    run_command(&mut command)?;
    publish(&workspace::target(agent::TARGET).join("release/carve"), &workspace::carve())?;
    Ok(Outcome::Done)
}

/// Puts the binary where the README says, by rename: an older one may be running.
fn publish(built: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("the binary is in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let part = to.with_extension("part");
    fs::copy(built, &part)
        .with_context(|| format!("cannot copy {} to {}", built.display(), part.display()))?;
    fs::rename(&part, to).with_context(|| format!("cannot rename {} to {}", part.display(), to.display()))
}
