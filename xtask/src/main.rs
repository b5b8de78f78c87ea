//! Every developer verb: `cargo xtask VERB`. One verb, one file.

mod agent;
mod command;
mod compare;
mod container_bench;
mod cpio;
mod demo;
mod difftest;
mod engines;
mod figures;
mod fuzz;
mod host;
mod kernel;
mod lint;
mod measuring;
mod packages;
mod progress;
mod setup;
mod test;
mod tidy;
mod totals;
mod virtiofsd;
mod vmm_bench;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, tests and compares; everything CI does is one of these.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what is missing and build the guest kernel, the agent, the binary and the demo image
    Setup,
    /// Set up, run the demo app by both models and write target/compare/report.html and report.json
    Compare(compare::Args),
    /// Compare the software engine with QEMU's TCG on the same guest, and hold the figures against the limits
    Engines(engines::Args),
    /// Measure the VMM alone: start, overhead, restore, clones; hold the figures against the limits
    VmmBench(vmm_bench::Args),
    /// Measure the container runtime alone, against crun and runc: start, exec, burst, memory; hold the figures against the limits
    ContainerBench(container_bench::Args),
    /// Set up and run every test
    Test,
    /// Build the guest kernel: target/guest/vmlinux
    Kernel {
        /// Build even when the cache has it
        #[arg(long)]
        force: bool,
    },
    /// Build the agent's initramfs: target/guest/initramfs.cpio
    Agent,
    /// Compare the software engine's interpreter with the host's CPU
    Difftest(difftest::Args),
    /// Run the fuzz targets, each for a bounded time
    Fuzz(fuzz::Args),
    /// Check the source: dependency table, paths in ARCHITECTURE.md, unsafe code, file lengths, crate versions
    Tidy,
    /// Check formatting and run clippy
    Lint,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Compare(args) => compare::run(&args),
        Verb::Engines(args) => engines::run(&args),
        Verb::VmmBench(args) => vmm_bench::run(&args),
        Verb::ContainerBench(args) => container_bench::run(&args),
        Verb::Test => return test::run(),
        Verb::Kernel { force } => {
            kernel::build(force).map(|path| progress::say("kernel", &path.display().to_string()))
        }
        Verb::Agent => agent::build().map(|path| progress::say("agent", &path.display().to_string())),
        Verb::Difftest(args) => difftest::test(&args),
        Verb::Fuzz(args) => fuzz::fuzz(&args),
        Verb::Tidy => tidy::run(),
        Verb::Lint => lint::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say("error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
