//! `carve`: one OCI image, one command line, two ways to run it.
//!
//! One file per verb, each of the shape parse → call → print. This crate is the only one that prints.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one crate that prints")]

mod bench;
mod completion;
mod doctor;
mod engine_flag;
mod exit;
mod format;
mod guest;
mod image;
mod inspect;
mod jail_flag;
mod logs;
mod monitor;
mod oci;
mod progress;
mod ps;
mod rm;
mod run;
mod spanless;
mod stats;
mod stop;
mod vm;
mod vm_process;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

/// Runs an OCI image as a container or as a virtual machine, and measures what each costs.
#[derive(Debug, Parser)]
#[command(name = "carve", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Where images and instances are kept [default: /var/lib/carve, or below $XDG_DATA_HOME without root]
    #[arg(long, global = true, env = "CARVE_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  carve run -p 8080:80 demo         a container
  carve run --vm -p 8080:80 demo    the same image as a virtual machine
  carve bench run demo              both, measured side by side
  carve doctor                      what this host offers for each";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an image as a container, or with --vm as a virtual machine
    Run(Box<run::Args>),
    /// List instances
    Ps(ps::Args),
    /// End running instances
    Stop(stop::Args),
    /// Remove ended instances with their read-write layers
    Rm(rm::Args),
    /// Show everything about an instance, as JSON
    Inspect(inspect::Args),
    /// Show what an instance uses, as JSON
    Stats(stats::Args),
    /// Work with images
    Image(image::Args),
    /// Work with virtual machines directly, without images
    Vm(Box<vm::Args>),
    /// Measure both models side by side
    Bench(bench::Args),
    /// Show what this host offers for each model, and what to do about what it lacks
    Doctor(doctor::Args),
    /// An OCI runtime: create, start, kill and delete containers from bundles
    Oci(Box<oci::Args>),
    /// Print a shell's completion script
    Completion(completion::Args),
    /// Owns one instance; started by `run`
    #[command(hide = true)]
    Monitor(monitor::Args),
}

impl Cli {
    fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(engine::default_root)
    }
}

fn main() -> std::process::ExitCode {
    if vm_process::is_asked_for() {
        return vm_process::run();
    }
    if let Some(args) = oci::asked_for() {
        return oci::run(args);
    }
    exit::survive_closed_pipes();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    logs::start();
    let root = cli.root();
    let result: anyhow::Result<Exit> = match cli.command {
        Command::Run(args) => run::run(&root, *args),
        Command::Ps(args) => ps::run(&root, &args),
        Command::Stop(args) => stop::run(&root, &args),
        Command::Rm(args) => rm::run(&root, &args),
        Command::Inspect(args) => inspect::run(&root, &args),
        Command::Stats(args) => stats::run(&root, &args),
        Command::Image(args) => image::run(&root, args),
        Command::Vm(args) => vm::run(*args),
        Command::Bench(args) => bench::run(&root, args),
        Command::Doctor(args) => doctor::run(&root, &args),
        Command::Oci(args) => return oci::carry_out_and_report(*args),
        Command::Completion(args) => completion::run(&args),
        Command::Monitor(args) => monitor::run(&root, &args),
    };
    exit::report(result)
}
