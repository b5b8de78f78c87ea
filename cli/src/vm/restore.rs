//! `carve vm restore`: a machine from a snapshot.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use vmm::api::Restore;
use vmm::snapshot::Overrides;
use vmm::{ProcessOptions, TapSource, VmProcess};

use super::control_socket::{NAMELESS, Socket, wait};
use super::event_lines::EventLines;
use super::gdb_flag::GdbFlag;
use super::jail_flags::JailFlags;
use super::listening::Listening;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm restore --state vm.state --memory vm.memory
  carve vm restore --state vm.state --memory vm.memory --api-sock /tmp/clone.sock --disk 0=clone.img --net 0=tap7
  carve vm restore --state vm.state --memory vm.memory --api-sock /tmp/clone.sock --paused
  carve vm restore --state vm.state --memory vm.memory --gdb /tmp/clone.gdb

The memory's file must stay as it is while the machine runs: its pages are the machine's until it writes them, so many
machines can start from one snapshot at once. A disk or a card is called by the name it was given, or by its number,
from 0. Exit status: as of `carve vm boot`.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file with all but the memory
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// The file with the memory
    #[arg(long, value_name = "FILE")]
    memory: PathBuf,
    /// A control socket, which is made. Its clients can name files in --jail-root only
    #[arg(long, value_name = "PATH")]
    api_sock: Option<PathBuf>,
    /// Do not let the guest go on yet: `carve vm resume` does
    #[arg(long, requires = "api_sock")]
    paused: bool,
    /// Another file for a disk
    #[arg(long, value_name = "ID=FILE", value_parser = pair)]
    disk: Vec<(String, String)>,
    /// Another tap for a network card
    #[arg(long, value_name = "ID=TAP", value_parser = pair)]
    net: Vec<(String, String)>,
    /// Another socket for the socket device
    #[arg(long, value_name = "PATH")]
    vsock: Option<PathBuf>,
    #[command(flatten)]
    jail: JailFlags,
    #[command(flatten)]
    gdb: GdbFlag,
    /// Append a JSON line to this file for each step of the start
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let events = Arc::new(EventLines::open(args.events.as_deref())?);
    let socket = args.api_sock.as_deref().map(|path| Socket::bind(path, NAMELESS)).transpose()?;
    let overrides = Overrides {
        disks: args.disk.into_iter().map(|(id, path)| (id, path.into())).collect(),
        nets: args.net.into_iter().map(|(id, tap)| (id, TapSource::Name(tap))).collect(),
        vsock: args.vsock,
    };
    let from = Restore { state: args.state, memory: args.memory, overrides };
    let debugger = args.gdb.listen()?;
    let options = ProcessOptions {
        jail: args.jail.jail(std::process::id())?,
        control: socket.as_ref().map(Socket::control),
        debugger: debugger.as_ref().map(Listening::listener),
        ..ProcessOptions::default()
    };
    let running = VmProcess::restore(from, !args.paused, options, events);
    wait(running.context("cannot start the machine")?, socket.is_some() || debugger.is_some())
}

/// `ID=VALUE`.
fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (id, value) = text.split_once('=').context("write ID=VALUE, as in 0=disk.img")?;
    ensure!(!value.is_empty(), "nothing comes after {id}=");
    Ok((id.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_equals_signs() {
        assert_eq!(pair("root=a=b").unwrap(), ("root".to_owned(), "a=b".to_owned()));
        assert!(pair("disk.img").unwrap_err().to_string().contains("ID=VALUE"));
        assert!(pair("0=").is_err());
    }
}
