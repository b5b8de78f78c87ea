//! `carve vm serve`: a machine that is described, started and watched over its control socket.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use vmm::api::{self, Begin, Description, Options, Served};

use super::control_socket::{Socket, interrupts};
use super::event_lines::EventLines;
use crate::engine_flag::EngineFlag;
use crate::exit::Exit;
use crate::jail_flag::JailFlag;
use crate::logs::Logs;

const EXAMPLES: &str = "\
Examples:
  carve vm serve --api-sock /tmp/vm.sock
  carve vm serve --api-sock /tmp/vm.sock --config vm.json
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source -d '{\"kernel_image_path\": \"vmlinux\"}'
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/actions -d '{\"action_type\": \"InstanceStart\"}'

The paths and bodies are those of Firecracker's API; what is not there answers 400 and says so. With --config, a file
of the form of Firecracker's --config-file, the machine starts at once. The serial console, if the kernel is told of one
by console=ttyS0, is on standard input and output. Exit status: 0 when the guest has ended, 125 with a message when it
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
    #[arg(long, value_name = "TEXT", default_value = "anonymous-instance")]
    id: String,
    #[command(flatten)]
    engine: EngineFlag,
    #[command(flatten)]
    jail: JailFlag,
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args, logs: Logs) -> anyhow::Result<Exit> {
    let begin = match &args.config {
        None => Begin::Empty,
        Some(path) => Begin::Start(Box::new(read_config(path)?)),
    };
    let events = Arc::new(EventLines::open(args.events.as_deref())?);
    let socket = Socket::bind(&args.api_sock)?;
    let confine = args.jail.is_on_while_files_are_opened();
    let options = Options { id: args.id, engine: args.engine.engine(), logs: Box::new(logs), confine };
    let interrupted = interrupts()?;
    match api::serve(Some(socket.listener()), begin, options, events, interrupted.as_fd())? {
        Served::Guest(_) | Served::Nothing => Ok(Exit::Success),
    }
}

/// Reads a machine from a file of the form of Firecracker's `--config-file`.
pub(super) fn read_config(path: &Path) -> anyhow::Result<Description> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the machine {}", path.display()))?;
    Description::parse(&text).with_context(|| format!("cannot understand the machine {}", path.display()))
}
