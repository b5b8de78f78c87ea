//! `carve vm serve`: a machine that is described, started and watched over its control socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use vmm::api::Description;
use vmm::{Described, ProcessOptions, VmProcess};

use super::control_socket::{NAMELESS, Socket, wait};
use super::event_lines::EventLines;
use super::jail_flags::JailFlags;
use crate::engine_flag::EngineFlag;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm serve --api-sock /tmp/vm.sock
  carve vm serve --api-sock /tmp/vm.sock --config vm.json
  carve vm serve --api-sock /tmp/vm.sock --jail-root /srv/vm --tap tap0
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source -d '{\"kernel_image_path\": \"vmlinux\"}'
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/actions -d '{\"action_type\": \"InstanceStart\"}'

The paths and bodies are those of Firecracker's API; what is not there answers 400 and says so. With --config, a file
of the form of Firecracker's --config-file, the machine starts at once. The serial console, if the kernel is told of one
by console=ttyS0, is on standard input and output. With --jail-root the VMM is in a jail from the start on, and finds
the files that clients or --config name in that directory only, as with Firecracker's jailer. Exit status: 0 when the guest has ended, 125 with a message when it
dies or cannot be started.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The control socket, which is made
    #[arg(long, value_name = "PATH")]
    api_sock: PathBuf,
    /// A machine to start at once, as JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The machine's name
    #[arg(long, value_name = "TEXT", default_value = NAMELESS)]
    id: String,
    #[command(flatten)]
    engine: EngineFlag,
    /// A tap that the machine can have, by this name; in a jail it can have no other
    #[arg(long, value_name = "NAME")]
    tap: Vec<String>,
    #[command(flatten)]
    jail: JailFlags,
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let description = args.config.as_deref().map(read_config).transpose()?;
    let events = Arc::new(EventLines::open(args.events.as_deref())?);
    let socket = Socket::bind(&args.api_sock, &args.id)?;
    let (jail, confine) = args.jail.jail_of_described(std::process::id())?;
    let options = ProcessOptions { jail, control: Some(socket.control()), ..ProcessOptions::default() };
    let described = Described { engine: args.engine.engine(), description, taps: args.tap, confine };
    let running = VmProcess::serve(described, options, events).context("cannot serve the control socket")?;
    wait(running, true)
}

/// Reads a machine from a file of the form of Firecracker's `--config-file`.
pub(super) fn read_config(path: &Path) -> anyhow::Result<Description> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the machine {}", path.display()))?;
    Description::parse(&text).with_context(|| format!("cannot understand the machine {}", path.display()))
}
