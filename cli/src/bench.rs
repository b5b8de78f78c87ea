//! `carve bench run IMAGE`: runs an image by both models, interleaved, and reports what each costs.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use bench::{Observer, Options, Progress, Ready, Runtime};
use clap::Subcommand;
use indicatif::ProgressBar;
use signal_hook::consts::signal;

use crate::{exit::Exit, format::Format, progress};

const EXAMPLES: &str = "\
Examples:
  carve bench run demo                                      container against VM, first correct reply on port 80
  carve bench run --ready http:8080/health --samples 50 app
  carve bench run --runtimes container,crun --ready output --network none demo -- echo ready
  carve bench run --html report.html --json report.json demo";

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve bench run demo")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure one image, run by each model in turn
    #[command(after_help = EXAMPLES)]
    Run(Box<RunArgs>),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// What to compare: container, vm, and the peer crun
    #[arg(long, value_delimiter = ',', default_value = "container,vm")]
    runtimes: Vec<Runtime>,
    /// When the app counts as ready: http:PORT/PATH, or output for its first line
    #[arg(long, default_value = "http:80/")]
    ready: Ready,
    /// Samples of each
    #[arg(long, default_value_t = 30)]
    samples: usize,
    /// Starts before the first sample
    #[arg(long, default_value_t = 1)]
    warm_up: usize,
    /// Start no further sample after this many seconds
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// Where the order of samples and all resampling come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Memory of each instance
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU time of each instance
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Confine every subject to these CPUs
    #[arg(long, value_delimiter = ',', value_name = "CPU,…")]
    pin: Option<Vec<usize>>,
    /// bridge, or none for apps that need no network
    #[arg(long, default_value = "bridge", value_parser = ["bridge", "none"])]
    network: String,
    /// Write the report with all raw samples to this file; it is also saved after each sample
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a web page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The image
    image: String,
    /// The command to run instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(root: &Path, args: Args) -> anyhow::Result<Exit> {
    let Verb::Run(args) = args.verb;
    let mut options = Options::new(std::env::current_exe().context("cannot find this binary")?, &args.image);
    options.root = Some(root.to_owned());
    options.command = args.command;
    options.ready = args.ready;
    options.runtimes = args.runtimes;
    options.samples = args.samples;
    options.warm_up = args.warm_up;
    options.budget = args.budget.map(Duration::from_secs);
    options.seed = args.seed;
    options.memory = args.memory;
    options.cpus = args.cpus;
    options.pin = args.pin;
    options.network = args.network == "bridge";
    options.save = args.json;
    let mut watcher = Watcher::new()?;
    let report = bench::run(&options, &mut watcher)?;
    watcher.bar.finish_and_clear();
    if let Some(path) = &args.html {
        bench::save_bytes(bench::html::render(&report).as_bytes(), path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.format {
        Format::Json => println!("{}", report.to_json()),
        Format::Table => println!("{}", bench::table::render(&report)),
    }
    Ok(Exit::Success)
}

/// Shows how far the run is; Ctrl-C ends it after the sample that is being taken, with a report on those so far.
struct Watcher {
    bar: ProgressBar,
    on_terminal: bool,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    fn new() -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal::SIGINT, signal::SIGTERM] {
            // The second one ends the command at once.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self { bar: progress::steps_bar(), on_terminal: std::io::stderr().is_terminal(), stop })
    }

    fn say(&self, text: String) {
        if self.on_terminal {
            self.bar.set_message(text);
        } else {
            eprintln!("bench: {text}");
        }
    }
}

impl Observer for Watcher {
    fn notice(&mut self, progress: &Progress) {
        match progress {
            Progress::Preparing { what } => self.say(what.clone()),
            Progress::WarmingUp { subject } => self.say(format!("warming up {subject}")),
            Progress::Planned { counts, estimate } => {
                self.bar.set_length(counts.iter().map(|(_, n)| *n as u64).sum());
                let counts: Vec<_> = counts.iter().map(|(subject, n)| format!("{n} × {subject}")).collect();
                self.say(format!("{}, about {} s", counts.join(", "), estimate.as_secs()));
            }
            Progress::Sampling { done, total, subject } => {
                self.bar.set_position(*done as u64);
                if self.on_terminal {
                    self.say(format!("{subject} ({} of {total})", done + 1));
                }
            }
            Progress::Sampled { done, total, subject, start_ms } => {
                self.bar.set_position(*done as u64);
                self.say(format!("{done} of {total}: {subject} ready after {start_ms:.1} ms"));
            }
            Progress::Failed { subject, message } => {
                self.bar.suspend(|| eprintln!("bench: {subject} failed: {message}"));
            }
            Progress::Absent { subject, reason } => {
                self.bar.suspend(|| eprintln!("bench: {subject} is left out: {reason}"));
            }
            Progress::Analysing => self.say("analysing".to_owned()),
        }
    }

    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
