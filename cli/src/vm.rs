//! `carve vm …`: virtual machines without images.
//!
//! [`machine`] is what its verbs have in common: the flags that describe a machine.

mod balloon_flag;
mod boot;
mod console_flag;
mod cpus_flag;
mod disk_flag;
mod event_lines;
mod fs_flag;
mod machine;
mod net_flag;
mod pmem_flag;
mod profile;
mod report;
mod serve;
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
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Boot(args) => boot::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Serve(args) => serve::run(args),
    }
}
