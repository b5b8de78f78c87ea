//! `carve completion SHELL`: a completion script on standard output.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, exit::Exit};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve completion bash > /etc/bash_completion.d/carve")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    clap_complete::generate(args.shell, &mut Cli::command(), "carve", &mut std::io::stdout());
    Ok(Exit::Success)
}
