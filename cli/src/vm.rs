//! `carve vm …`: virtual machines without images.
//!
//! [`machine`] is what its verbs have in common: the flags that describe a machine.

mod balloon;
mod balloon_flag;
mod boot;
mod console;
mod console_flag;
mod control;
mod control_socket;
mod cpus_flag;
mod disk_flag;
mod dry_run;
mod event_lines;
mod fs_flag;
mod gdb_flag;
mod jail_flags;
mod listening;
mod machine;
mod net_flag;
mod pmem_flag;
mod profile;
mod ready;
mod rebase;
mod report;
mod restore;
mod serve;
mod snapshot;
mod stats;
mod vhost_user_disk_flag;
mod vsock_flag;

use clap::Subcommand;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carve vm boot --kernel vmlinux --initrd initramfs.cpio\n  carve vm profile --kernel vmlinux --initrd initramfs.cpio"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot a kernel
    Boot(boot::Args),
    /// Boot a kernel and show where it spends its instructions, by symbol
    Profile(profile::Args),
    /// Serve a control socket, with Firecracker's API, for one machine
    Serve(serve::Args),
    /// Start a machine from a snapshot
    Restore(restore::Args),
    /// Have a guest stand still
    Pause(control::Args),
    /// Let a paused guest go on
    Resume(control::Args),
    /// End a machine at once, as pulling the plug does
    Stop(control::Args),
    /// Show what a machine has counted
    Stats(stats::Args),
    /// Resize a machine's memory balloon, or show what it has
    Balloon(balloon::Args),
    /// Be the terminal of a machine whose console is at a socket
    Console(console::Args),
    /// Write a machine to two files, from which others can start
    Snapshot(snapshot::Args),
    /// Lay a diff snapshot's memory over that of the one before
    Rebase(rebase::Args),
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Boot(args) => boot::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Restore(args) => restore::run(args),
        Verb::Pause(args) => control::pause(&args),
        Verb::Resume(args) => control::resume(&args),
        Verb::Stop(args) => control::stop(&args),
        Verb::Stats(args) => stats::run(&args),
        Verb::Balloon(args) => balloon::run(&args),
        Verb::Console(args) => console::run(&args),
        Verb::Snapshot(args) => snapshot::run(&args),
        Verb::Rebase(args) => rebase::run(&args),
    }
}
