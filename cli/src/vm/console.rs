//! `carve vm console`: the terminal becomes the console of a machine.

use std::path::PathBuf;

use anyhow::Context;
use vmm::ConsoleLeft;

use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm boot --kernel vmlinux --initrd initramfs.cpio --console socket=/tmp/console.sock &
  carve vm console /tmp/console.sock

Ctrl-A x leaves, and the guest goes on; Ctrl-A Ctrl-A sends one Ctrl-A. Somebody else who is attached is waited for.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The socket that the machine was given by --console socket=PATH
    #[arg(value_name = "PATH")]
    socket: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let left = vmm::attach_console(&args.socket).with_context(|| {
        format!(
            "cannot attach to the console at {}; name the socket of --console socket=PATH",
            args.socket.display()
        )
    })?;
    match left {
        ConsoleLeft::Detached => eprintln!("\r\ncarve: detached, the guest goes on"),
        ConsoleLeft::Closed => eprintln!("\r\ncarve: the machine has ended"),
    }
    Ok(Exit::Success)
}
