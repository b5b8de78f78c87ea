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
    /// Keep what was found: the smallest inputs that reach all that is reached become the corpus
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
    let tool = Tool { program: install()?, folder };
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    for target in chosen {
        tool.fuzz(target, args)?;
    }
    say("fuzz", &format!("{} targets, nothing found", chosen.len()));
    Ok(())
}

/// cargo-fuzz, and where the targets are.
struct Tool {
    program: PathBuf,
    folder: PathBuf,
}

impl Tool {
    /// Runs one target from the kept corpus and what earlier runs have found.
    fn fuzz(&self, target: &str, args: &Args) -> Result<()> {
        let kept = directory(self.folder.join("corpus").join(target))?;
        let found = directory(workspace::target("fuzz-corpus").join(target))?;
        say("fuzz", &format!("{target}, {} s", args.seconds));
        // New inputs go to the first directory.
        let limits =
            ["-max_len=16384", "-len_control=0", "-timeout=20", "-rss_limit_mb=4096", "-verbosity=0"];
        run(self
            .command(target, &[&found, &kept])
            .arg(format!("-max_total_time={}", args.seconds))
            .args(limits))
        .with_context(|| {
            format!("the target {target} fails: its input is in {}/artifacts/{target}", self.folder.display())
        })?;
        if args.keep { self.keep(target, &kept, &found) } else { Ok(()) }
    }

    /// Makes the fewest and smallest inputs that reach all that `kept` and `found` reach the new `kept`.
    fn keep(&self, target: &str, kept: &Path, found: &Path) -> Result<()> {
        let least = directory(workspace::target("fuzz-corpus").join(format!("{target}.least")))?;
        remove(&least)?;
        fs::create_dir(&least).with_context(|| format!("cannot make {}", least.display()))?;
        run(self.command(target, &[&least, kept, found]).args(["-merge=1", "-timeout=20", "-verbosity=0"]))?;
        remove(kept)?;
        directory(kept.to_owned())?;
        for input in
            fs::read_dir(&least).with_context(|| format!("cannot read {}", least.display()))?.flatten()
        {
            let to = kept.join(input.file_name());
            fs::copy(input.path(), &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        remove(&least)
    }

    /// A run of a target with these directories; flags of libFuzzer's follow.
    fn command(&self, target: &str, directories: &[&Path]) -> Command {
        let mut fuzz = Command::new(&self.program);
        fuzz.args(["fuzz", "run", "--fuzz-dir"]).arg(&self.folder).arg(target).args(directories).arg("--");
        fuzz.current_dir(workspace::root()).env("RUSTUP_TOOLCHAIN", "nightly");
        fuzz
    }
}

fn directory(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
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
