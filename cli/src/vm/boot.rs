//! `carve vm boot`: a kernel with its console on the terminal.

use std::path::PathBuf;

use anyhow::Context;
use vmm::{ProcessOptions, SerialConfig, VmExit, VmProcess};

use super::event_lines::EventLines;
use super::machine::MachineArgs;
use crate::engine_flag::EngineFlag;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm boot --kernel vmlinux --initrd initramfs.cpio
  carve vm boot --kernel bzImage --disk root.ext4 --disk data.img,ro --cmdline 'root=/dev/vda rw' --memory 512
  carve vm boot --engine kvm --cpus 2,affinity=0:1 --kernel bzImage --initrd initramfs.cpio

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
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let events = EventLines::open(args.events.as_deref())?;
    let mut config = args.machine.config()?;
    config.engine = args.engine.engine();
    if config.console.is_none() {
        config.serial = SerialConfig::Stdio;
    }
    let running = VmProcess::spawn(&config, ProcessOptions::default(), std::sync::Arc::new(events))
        .context("cannot start the guest")?;
    match running.wait()? {
        VmExit::Reset | VmExit::PoweredOff | VmExit::Stopped => Ok(Exit::Success),
    }
}
