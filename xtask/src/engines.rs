//! `cargo xtask engines`: the software engine against QEMU's TCG, which is what one would use instead where the CPU has
//! no virtualisation: the same kernel, initramfs, RAM and CPU, in turn.

mod engine;
mod guest;
mod interpreter;
mod order;
mod report;
mod run;
mod workload;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::host::{self, Host};
use crate::measuring::Flags;
use crate::progress::{Outcome, bar, say, step};
use crate::setup;
pub(crate) use engine::QEMU;
use engine::{Engine, Files};
pub(crate) use order::SplitMix64;
pub(crate) use report::Times;
use report::{Absent, Report, Sample, rows};
use workload::Workload;

const EXAMPLES: &str = "\
Examples:
  cargo xtask engines
  cargo xtask engines --samples 30 --json > engines.json
  cargo xtask engines --carve /tmp/before/carve --seed 7

Exit status: 0, or 1 when something fails or a limit is not kept to.";

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Runs of each workload on each engine
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Measure carve's kvm engine as well; without hardware virtualisation this takes minutes a sample
    #[arg(long)]
    with_kvm: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Sets up, measures and prints.
///
/// # Errors
/// Set-up's, carve's, different answers from different engines, or a limit that is not kept to.
pub(crate) fn run(args: &Args) -> Result<()> {
    let files = set_up(args)?;
    let (engines, absent) = usable(&files, args)?;
    let seed = args.flags.seed();
    let before = host::load();
    let samples = measure(&files, &order::of(args.samples, &engines, seed))?;
    let load = [before, host::load()];
    let interpreter = interpreter::counted(&files, args.samples)
        .map_err(|error| say("engines", &format!("{error:#}")))
        .ok();
    let report = Report {
        host: Host::read(),
        load,
        seed,
        rounds: args.samples,
        absent,
        rows: rows(&samples),
        interpreter,
        samples,
    };
    args.flags.print(&report)
}

fn set_up(args: &Args) -> Result<Files> {
    let (carve, kernel) = setup::for_benchmark("engines", args.flags.carve.as_deref())?;
    let mut initramfs = PathBuf::new();
    step("the benchmark's guest", || {
        initramfs = guest::build()?;
        Ok(Outcome::Done)
    })?;
    Ok(Files { carve, kernel, initramfs })
}

/// The engines that work here, found out by a boot that is not counted and fills the page cache; and those that do
/// not, with their messages.
fn usable(files: &Files, args: &Args) -> Result<(Vec<Engine>, Vec<Absent>)> {
    let boot = |engine: Engine| run::run(&mut files.command(engine, Workload::Boot), engine.patience());
    boot(Engine::Soft).context("the software engine does not boot the guest")?;
    let (mut engines, mut absent) = (vec![Engine::Soft], Vec::new());
    for engine in [Some(Engine::Tcg), args.with_kvm.then_some(Engine::Kvm)].into_iter().flatten() {
        match boot(engine) {
            Ok(_) => engines.push(engine),
            Err(error) => absent.push(Absent { engine, reason: format!("{error:#}") }),
        }
    }
    Ok((engines, absent))
}

fn measure(files: &Files, steps: &[order::Step]) -> Result<Vec<Sample>> {
    say("engines", &format!("{} runs", steps.len()));
    let bar = bar(steps.len());
    let mut answers = HashMap::new();
    let mut samples = Vec::new();
    for &order::Step { round, engine, workload } in steps {
        bar.set_message(format!("{} on {}", workload.title(), engine.title()));
        let run = run::run(&mut files.command(engine, workload), engine.patience())?;
        let answer = answers.entry(workload.name()).or_insert_with(|| run.answer.clone());
        if *answer != run.answer {
            bail!(
                "{} on {} answers {:?}, another run {answer:?}: one of them computes wrongly",
                workload.title(),
                engine.title(),
                run.answer
            );
        }
        samples.push(Sample::new(round, engine, workload, &run));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(samples)
}
