//! The VMM's own half: from a configuration on a socket to the end of the guest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::channel::{Channel, Received};
use super::descriptors;
use super::message::{FromVm, ToVm};
use super::paths;
use crate::config::VmConfig;
use crate::cpu::CpuError;
use crate::events::{BootEvent, Milestone};
use crate::machine::{RunningVm, Vm};

/// The first descriptor that comes with a configuration is standard input.
const STDIN: usize = 0;

/// Runs as the VMM of whoever started this process by [`super::VmProcess::spawn`]: descriptor 0 is the connection to it.
/// What happens is told there.
pub fn main() -> ExitCode {
    let start = BootEvent::now(Milestone::ProcessStart);
    // What `ps` shows; executed by way of /proc/self/exe it would be `exe`.
    let _ = rustix::thread::set_name(c"carve-vm");
    match serve(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the VMM's process was not started as one");
            ExitCode::FAILURE
        }
    }
}

fn serve(start: BootEvent) -> io::Result<()> {
    // Whatever happens to the parent, the guest does not outlive it: a parent that is gone by now has closed the channel.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let channel = Arc::new(Channel::new(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?));
    let (mut config, _descriptors) = match channel.receive()? {
        Received::Message(ToVm::Build(config), descriptors) => take_descriptors(*config, descriptors)?,
        // Nobody wants a machine any more.
        Received::Message(..) | Received::Nothing | Received::End => return Ok(()),
    };
    let events = channel.clone();
    let sink = move |event| {
        // Where a guest makes more events than are read, the rest is nobody's loss.
        let _ = events.try_send(&FromVm::Event(event));
    };
    sink(start);
    if let Err(error) = paths::enter_socket_directory(&mut config) {
        return channel.send(&FromVm::Failed(error.to_string()), &[]);
    }
    match Vm::build(&config, Arc::new(sink)).and_then(Vm::start) {
        Ok(running) => {
            channel.send(&FromVm::Running, &[])?;
            channel.send(&run(&channel, running), &[])
        }
        Err(error) => channel.send(&FromVm::Failed(error.to_string()), &[]),
    }
}

/// Makes the first descriptor standard input and the others those that the configuration means.
fn take_descriptors(
    mut config: VmConfig,
    mut descriptors: Vec<OwnedFd>,
) -> io::Result<(VmConfig, Vec<OwnedFd>)> {
    if descriptors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no standard input came along"));
    }
    rustix::stdio::dup2_stdin(descriptors.remove(STDIN))?;
    descriptors::resolve(&mut config, &descriptors);
    Ok((config, descriptors))
}

/// Does what the parent says until the guest has ended; without a parent, there is to be no guest either.
fn run(channel: &Channel, mut running: RunningVm) -> FromVm {
    let mut stopping = false;
    loop {
        match running.try_wait() {
            Ok(None) => {}
            Ok(Some(exit)) => return FromVm::Ended(exit),
            Err(CpuError::Died(death)) => return FromVm::Died(death),
            Err(error) => return FromVm::Broke(error.to_string()),
        }
        let (ended, told) = (running.exit_fd(), channel.as_fd());
        let mut fds =
            [PollFd::from_borrowed_fd(ended, PollFlags::IN), PollFd::from_borrowed_fd(told, PollFlags::IN)];
        let waited_for = if stopping { 1 } else { 2 };
        if let Err(error) = poll(&mut fds[..waited_for], None)
            && error != rustix::io::Errno::INTR
        {
            return FromVm::Broke(format!("cannot wait for the guest: {error}"));
        }
        if !fds[1].revents().is_empty() {
            // There is only one thing that a running VMM is told, and a parent that speaks nonsense or is gone wants no
            // guest either.
            stopping = true;
            running.request_stop();
        }
    }
}
