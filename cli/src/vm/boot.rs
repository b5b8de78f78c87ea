//! `carve vm boot`: a kernel with its console on the terminal.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use vmm::{ProcessOptions, SerialConfig, VmProcess};

use super::control_socket::{NAMELESS, Socket, wait};
use super::dry_run;
use super::event_lines::EventLines;
use super::gdb_flag::GdbFlag;
use super::jail_flags::JailFlags;
use super::listening::Listening;
use super::machine::MachineArgs;
use crate::engine_flag::EngineFlag;
use crate::exit::Exit;
use crate::format::Format;

const EXAMPLES: &str = "\
Examples:
  carve vm boot --kernel vmlinux --initrd initramfs.cpio
  carve vm boot --kernel bzImage --disk root.ext4 --disk data.img,ro --cmdline 'root=/dev/vda rw' --memory 512
  carve vm boot --engine kvm --cpus 2,affinity=0:1 --kernel bzImage --initrd initramfs.cpio
  carve vm boot --config vm.json --api-sock /tmp/vm.sock
  carve vm boot --kernel vmlinux --disk root.ext4 --net tap=tap0 --dry-run
  carve vm boot --kernel vmlinux --initrd initramfs.cpio --gdb /tmp/vm.gdb

The guest's serial console is on standard input and output, unless --console says where its console is; Ctrl-A x
ends the guest. Exit status: 0 when the guest powers off or
resets, 125 with a message when it dies or cannot be started; the message names the kernel's function where
there are symbols.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    engine: EngineFlag,
    #[command(flatten)]
    jail: JailFlags,
    #[command(flatten)]
    gdb: GdbFlag,
    /// A control socket, which is made: see `carve vm serve`. Its clients can name files in --jail-root only
    #[arg(long, value_name = "PATH")]
    api_sock: Option<PathBuf>,
    /// Start nothing: print the memory map, the devices and the kernel's command line
    #[arg(long)]
    dry_run: bool,
    /// How to print them
    #[arg(long, value_enum, default_value = "table", requires = "dry_run")]
    format: Format,
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut config = args.machine.config(args.engine.engine())?;
    if config.console.is_none() && config.serial == SerialConfig::None {
        config.serial = SerialConfig::Stdio;
    }
    if args.dry_run {
        return dry_run::print(&config, args.format);
    }
    let events = Arc::new(EventLines::open(args.events.as_deref())?);
    let socket = args.api_sock.as_deref().map(|path| Socket::bind(path, NAMELESS)).transpose()?;
    let debugger = args.gdb.listen()?;
    let options = ProcessOptions {
        jail: args.jail.jail(std::process::id())?,
        control: socket.as_ref().map(Socket::control),
        debugger: debugger.as_ref().map(Listening::listener),
        ..ProcessOptions::default()
    };
    let running = VmProcess::spawn(&config, options, events).context("cannot start the guest")?;
    wait(running, socket.is_some() || debugger.is_some())
}
