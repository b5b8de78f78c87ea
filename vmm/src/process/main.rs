//! The VMM's own half: from a configuration on a socket to the end of the guest.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::channel::{Channel, Received};
use super::descriptors;
use super::message::{Build, FromVm, ToVm};
use super::paths;
use crate::cpu::CpuError;
use crate::events::{BootEvent, EventSink, Milestone};
use crate::jail::Jail;
use crate::machine::{RunningVm, Vm};
use crate::seccomp::{self, ThreadKind};
use crate::sys::close_range::close_inherited;
use crate::sys::violation;

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
    close_inherited()?;
    // Whatever happens to the parent, the guest does not outlive it: a parent that is gone by now has closed the channel.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The lowest that is free, which is where a forbidden call is reported.
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), violation::REPORT)?;
    let channel = Arc::new(Channel::new(channel));
    let (build, descriptors) = match channel.receive()? {
        Received::Message(ToVm::Build(build), descriptors) => (*build, descriptors),
        // Nobody wants a machine any more.
        Received::Message(..) | Received::Nothing | Received::End => return Ok(()),
    };
    let events = channel.clone();
    let sink = move |event| {
        // Where a guest makes more events than are read, the rest is nobody's loss.
        let _ = events.try_send(&FromVm::Event(event));
    };
    sink(start);
    match start_machine(build, descriptors, Arc::new(sink)) {
        Ok(running) => {
            channel.send(&FromVm::Running, &[])?;
            channel.send(&run(&channel, &mut ManuallyDrop::new(running)), &[])
        }
        Err(reason) => channel.send(&FromVm::Failed(reason), &[]),
    }
}

/// From a configuration to a guest that runs, in its jail; or the reason why not.
fn start_machine(
    build: Build,
    mut descriptors: Vec<OwnedFd>,
    events: Arc<dyn EventSink>,
) -> Result<RunningVm, String> {
    fn text(error: impl ToString) -> String {
        error.to_string()
    }
    let Build { mut config, jail } = build;
    if descriptors.is_empty() {
        return Err("no standard input came along with the configuration".to_owned());
    }
    rustix::stdio::dup2_stdin(descriptors.remove(STDIN)).map_err(text)?;
    descriptors::resolve(&mut config, &descriptors);
    paths::enter_socket_directory(&mut config).map_err(text)?;
    let jail = jail.map(Jail::prepare).transpose().map_err(text)?;
    let mut vm = Vm::build(&config, events).map_err(text)?;
    // The machine has duplicates of those that it wants.
    drop(descriptors);
    let Some(jail) = jail else { return vm.start().map_err(text) };
    jail.enter(config.vsock.is_some().then_some(Path::new("."))).map_err(text)?;
    seccomp::report_violations().map_err(text)?;
    vm.confine_threads();
    let running = vm.start_paused().map_err(text)?;
    seccomp::install(ThreadKind::Main).map_err(text)?;
    running.resume();
    Ok(running)
}

/// Does what the parent says until the guest has ended; without a parent, there is to be no guest either.
///
/// The machine is left to the kernel to take apart: that is faster, and destructors may want what the jail forbids.
fn run(channel: &Channel, running: &mut RunningVm) -> FromVm {
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
