//! `carve oci create ID`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use container::runtime::{Create, Inherited, Runtime};

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
    /// Send the program's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Pass this many descriptors from 3 up on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// Leave the program its caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Move the root over the host's and do not exchange them: for hosts that run from their initial root filesystem
    #[arg(long)]
    no_pivot: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

impl ContainerArgs {
    /// With this process's own streams.
    pub(super) fn into_options(self, inherited: Inherited) -> anyhow::Result<Create> {
        Ok(Create {
            bundle: self.bundle,
            stdio: own_streams()?,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            inherited,
            new_keyring: !self.no_new_keyring,
            pivot: !self.no_pivot,
        })
    }
}

pub(super) fn run(runtime: &Runtime, args: Args, inherited: Inherited) -> Outcome {
    let id = args.container.id.clone();
    runtime.create(&id, args.container.into_options(inherited)?)?;
    Ok(0)
}

/// This process's own streams.
pub(super) fn own_streams() -> io::Result<[OwnedFd; 3]> {
    Ok([own(io::stdin())?, own(io::stdout())?, own(io::stderr())?])
}

fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
