//! `cargo xtask container-bench`: what the container runtime itself costs, images aside: to start, to execute in a running
//! container, ten at once, in memory; against crun and runc with the same bundle.

mod bundle;
mod burst;
mod exec;
mod memory;
mod memory_limit;
mod namespace;
mod rounds;
mod runtime;
mod start;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::figures::{Figure, Report};
use crate::host::{self, Host};
use crate::measuring::Flags;
use crate::{setup, workspace};
use bundle::Bundles;
use runtime::Bench;

const EXAMPLES: &str = "\
Examples:
  cargo xtask container-bench
  cargo xtask container-bench --samples 100 --json > containers.json
  cargo xtask container-bench start exec --carve /tmp/before/carve --seed 7

Needs root. Exit status: 0, or 1 when something fails or a limit is not kept to.";

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only these
    #[arg(value_enum, value_name = "WHAT")]
    only: Vec<Subject>,
    /// Rounds of each
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    #[command(flatten)]
    flags: Flags,
    /// In the namespace that the verb has made for itself, with everything set up
    #[arg(long, hide = true, requires = "carve")]
    set_up: bool,
}

impl Args {
    /// The same once everything is set up, as words of a command line.
    fn again(&self, carve: &Path, seed: u64) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["container-bench".into()];
        let values = self.only.iter().filter_map(ValueEnum::to_possible_value);
        words.extend(values.map(|value| value.get_name().into()));
        words.extend(["--samples".into(), self.samples.to_string().into()]);
        words.extend(self.flags.json.then(|| "--json".into()));
        words.extend(["--seed".into(), seed.to_string().into(), "--set-up".into(), "--carve".into()]);
        words.push(carve.into());
        words
    }
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// `run` of busybox `true`, from the start of the command to its end
    Start,
    /// `exec` of busybox `true` in a running container, from the start of the command to its end
    Exec,
    /// Ten `run` at once, from the start of the first to the end of the last
    Burst,
    /// Most memory that the runtime's process had when the container's program runs
    Memory,
    /// Whether a container with a memory limit of 1 MiB starts
    MemoryLimit,
}

/// Sets up, measures and prints.
///
/// # Errors
/// Set-up's, a runtime's, or a limit that is not kept to.
pub(crate) fn run(args: &Args) -> Result<()> {
    let seed = args.flags.seed();
    let carve = match &args.flags.carve {
        Some(carve) if args.set_up => carve.clone(),
        given => {
            let carve = setup::for_container_benchmark("container-bench", given.as_deref())?;
            return namespace::run_in_its_own(&args.again(&carve, seed));
        }
    };
    namespace::hide_unified()?;
    let report = measure(args, carve, seed)?;
    args.flags.print(&report)
}

fn measure(args: &Args, carve: PathBuf, seed: u64) -> Result<Report> {
    let before = host::load();
    let bundles = Bundles::make(&workspace::target("container-bench"), &carve)?;
    let (bench, absent) = Bench::with_what_works(carve, bundles, args.samples, seed)
        .context("carve does not start the container")?;
    let mut figures: Vec<Figure> = Vec::new();
    for (subject, measure) in [
        (Subject::Start, start::measure as fn(&Bench) -> Result<Vec<Figure>>),
        (Subject::Exec, exec::measure),
        (Subject::Burst, burst::measure),
        (Subject::Memory, memory::measure),
        (Subject::MemoryLimit, memory_limit::measure),
    ] {
        if args.only.is_empty() || args.only.contains(&subject) {
            figures.extend(measure(&bench)?);
        }
    }
    Ok(Report { host: Host::read(), load: [before, host::load()], seed, absent, figures })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_was_asked_for_is_asked_for_again() {
        let words = ["container-bench", "memory-limit", "start", "--samples", "7", "--json"];
        let args = Line::try_parse_from(words).expect("right").args;
        let again = Line::try_parse_from(args.again(Path::new("/bin/carve"), 5)).expect("right").args;
        assert_eq!(again.only, [Subject::MemoryLimit, Subject::Start]);
        assert_eq!((again.samples, again.flags.json, again.flags.seed(), again.set_up), (7, true, 5, true));
        assert_eq!(again.flags.carve, Some("/bin/carve".into()));
    }
}
