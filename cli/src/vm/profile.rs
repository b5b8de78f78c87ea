//! `carve vm profile`: where a guest's kernel spends its instructions.
//!
//! The interpreter of the software engine counts each run of each block of code anyway; here that becomes a table by
//! symbol. No sampling, nothing in the guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::{Engine, RunningVm, SerialConfig, Symbols, Vm};

use super::control_socket::interrupts;
use super::event_lines::EventLines;
use super::machine::MachineArgs;
use super::ready::Callee;
use super::report::Report;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm profile --kernel vmlinux --initrd initramfs.cpio
  carve vm profile --kernel vmlinux --initrd initramfs.cpio --seconds 5 --top 50 2>console.log
  carve vm profile --kernel vmlinux --initrd initramfs.cpio --top 0 --json | jq '.symbols[].symbol'
  carve vm profile --kernel vmlinux --initrd initramfs.cpio --until-ready

The kernel's instructions are counted, not sampled, by the software engine (`--engine soft` of `carve vm boot`), on
any host. Its console is on standard error, the profile on standard output. The guest runs until it ends by
itself, --seconds have passed, it writes the byte of --until-mark to I/O port 0x3f0, or Ctrl-C. With --until-ready the
initramfs is the agent's, the machine is what `carve run --vm` gives it (a socket device, no serial console), and the
profile ends with the instruction by which the agent says that it is ready. Exit status: 0 however it ended, 125 with a message when it dies or
cannot be started.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    /// Stop the guest after this time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Stop the guest when it writes this byte to the boot timer's port
    #[arg(long, value_name = "BYTE")]
    until_mark: Option<u8>,
    /// Stop the guest when the agent in its initramfs is ready for an app
    #[arg(long, conflicts_with = "until_mark")]
    until_ready: bool,
    /// How many symbols to show, 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut config = args.machine.config(Engine::Soft)?;
    // Before the guest runs: a wrong file is said at once.
    let symbols = config.symbols.as_deref().map(Symbols::read).transpose()?;
    if symbols.is_none() {
        eprintln!(
            "carve: no System.map beside the kernel, so there are addresses for names; --symbols FILE names one"
        );
    }
    config.profile = true;
    config.serial = SerialConfig::Stderr;
    config.stop_at_mark = args.until_mark;
    let _engine = if args.until_ready { Some(Callee::prepare(&mut config)?) } else { None };
    let running = Vm::build(&config, Arc::new(EventLines::open(None)?))
        .and_then(Vm::start)
        .context("cannot start the guest")?;
    wait(&running, args.seconds.map(|seconds| Duration::from_secs(seconds.into())))?;
    let (end, profile) = running.wait_for_profile()?;
    let profile = profile.context(
        "this engine counts no instructions; only the software engine (--engine soft) keeps a profile",
    )?;
    let name = |address: u64| match &symbols {
        Some(symbols) => symbols.find(address).map_or("[unknown]", |(name, _)| name).to_owned(),
        None => format!("{address:#x}"),
    };
    let report = Report::new(&profile, name, end, args.top);
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(Exit::Success)
}

/// Waits until the guest ends; asks it to when its time is up or somebody interrupts us.
fn wait(running: &RunningVm, limit: Option<Duration>) -> anyhow::Result<()> {
    let interrupted = interrupts()?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let (ended, interrupted) = (running.exit_fd(), &interrupted);
    let mut fds = [PollFd::from_borrowed_fd(ended, PollFlags::IN), PollFd::new(interrupted, PollFlags::IN)];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().context("--seconds is out of range")?;
        match poll(&mut fds, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the guest"),
            Ok(_) if fds[0].revents().is_empty() => break running.request_stop(),
            Ok(_) => break,
        }
    }
    Ok(())
}
