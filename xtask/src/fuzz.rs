//! `cargo xtask fuzz`: runs each target of `fuzz/` for a bounded time, from the corpus that is kept with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{capture, cargo, run};
use crate::progress::{Outcome, say, step};
use crate::workspace;

/// The tool's version, and so the directory it is kept in.
const VERSION: &str = "0.13.1";
const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz
  cargo xtask fuzz --seconds 600 block api

A target that fails leaves the input in fuzz/artifacts. Takes a nightly toolchain (`rustup toolchain install nightly`).";

/// What is run, and for how long.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Add what was found to be new to the kept corpus
    #[arg(long)]
    keep: bool,
}

/// Runs the targets, one after the other.
///
/// # Errors
/// There is no such target, no nightly toolchain, or one fails.
pub(crate) fn fuzz(args: &Args) -> Result<()> {
    let folder = workspace::root().join("fuzz");
    let all = targets(&folder)?;
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target {unknown:?}; there are {}", all.join(", "));
    }
    let tool = install()?;
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    for target in chosen {
        let kept = folder.join("corpus").join(target);
        fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let found = workspace::target("fuzz-corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        say("fuzz", &format!("{target}, {} s", args.seconds));
        let mut fuzz = Command::new(&tool);
        fuzz.args(["fuzz", "run", "--fuzz-dir"]).arg(&folder).arg(target);
        // New inputs go to the first directory.
        fuzz.arg(if args.keep { &kept } else { &found }).arg(&kept).arg("--");
        fuzz.arg(format!("-max_total_time={}", args.seconds)).args([
            "-timeout=20",
            "-rss_limit_mb=4096",
            "-verbosity=0",
        ]);
        fuzz.current_dir(workspace::root()).env("RUSTUP_TOOLCHAIN", "nightly");
        run(&mut fuzz)
            .with_context(|| format!("the target {target} fails: its input is in fuzz/artifacts/{target}"))?;
    }
    say("fuzz", &format!("{} targets, nothing found", chosen.len()));
    Ok(())
}

/// The targets there are, by the names of their files.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let dir = folder.join("fuzz_targets");
    let files = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names: Vec<String> =
        files.flatten().filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort_unstable();
    Ok(names)
}

/// Installs cargo-fuzz outside of the checkout, if it is not there, and returns its path.
fn install() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let root = home.join(".cache/carve").join(format!("cargo-fuzz-{VERSION}"));
    let tool = root.join("bin/cargo-fuzz");
    step("cargo-fuzz", || {
        if tool.is_file() {
            return Ok(Outcome::Cached);
        }
        let version = capture(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
        if !version.is_ok_and(|output| output.status.success()) {
            bail!("there is no nightly toolchain; `rustup toolchain install nightly` installs one");
        }
        run(cargo()
            .args(["install", "cargo-fuzz", "--locked", "--quiet", "--version", VERSION, "--root"])
            .arg(&root))?;
        Ok(Outcome::Done)
    })?;
    Ok(tool)
}
