//! `carve oci create ID`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use container::runtime::{Create, Runtime};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci create --bundle web web1
  carve oci create --bundle web --pid-file web1.pid web1";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) container: ContainerArgs,
}

/// What `create` and `run` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct ContainerArgs {
    /// The bundle: a directory with a config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write the id of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

impl ContainerArgs {
    /// With this process's own streams.
    pub(super) fn into_options(self) -> anyhow::Result<Create> {
        let stdio = [own(io::stdin())?, own(io::stdout())?, own(io::stderr())?];
        Ok(Create { bundle: self.bundle, stdio, pid_file: self.pid_file })
    }
}

pub(super) fn run(runtime: &Runtime, args: Args) -> Outcome {
    let id = args.container.id.clone();
    runtime.create(&id, args.container.into_options()?)?;
    Ok(0)
}

fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
