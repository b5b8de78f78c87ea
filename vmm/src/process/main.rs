//! The VMM's own half: from a message on a socket to the end of the guest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::build::{Work, build};
use super::channel::{Channel, Received};
use super::message::{FromVm, ToVm};
use super::paths;
use crate::api::{LogControl, ServeError, Served};
use crate::cpu::CpuError;
use crate::events::{BootEvent, Milestone};
use crate::machine::{RunningVm, VmExit};
use crate::sys::close_range::close_inherited;
use crate::sys::heap;
use crate::sys::signals::ignore_interrupts;
use crate::sys::violation;

/// Runs as the VMM of whoever started this process by [`super::VmProcess::spawn`] and the like: descriptor 0 is the
/// connection to it. What happens is told there; clients of a control socket may change where `logs` go.
pub fn main(logs: Box<dyn LogControl>) -> ExitCode {
    let start = BootEvent::now(Milestone::ProcessStart);
    // What `ps` shows; executed by way of /proc/self/exe it would be `exe`.
    let _ = rustix::thread::set_name(c"carve-vm");
    match serve(start, logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the VMM's process was not started as one");
            ExitCode::FAILURE
        }
    }
}

fn serve(start: BootEvent, logs: Box<dyn LogControl>) -> io::Result<()> {
    heap::set_up();
    close_inherited()?;
    // Whatever happens to the parent, the guest does not outlive it: a parent that is gone by now has closed the channel.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    ignore_interrupts()?;
    // The lowest that is free, which is where a forbidden call is reported.
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), violation::REPORT)?;
    let channel = Arc::new(Channel::new(channel));
    let (what, descriptors) = match channel.receive()? {
        Received::Message(ToVm::Build(what), descriptors) => (*what, descriptors),
        // Nobody wants a machine any more.
        Received::Message(..) | Received::Nothing | Received::End => return Ok(()),
    };
    let events = channel.clone();
    let sink = move |event| {
        // Where a guest makes more events than are read, the rest is nobody's loss.
        let _ = events.try_send(&FromVm::Event(event));
    };
    sink(start);
    let mut work = match build(what, descriptors, Arc::new(sink), logs) {
        Ok(work) => work,
        Err(reason) => return channel.send(&FromVm::Failed(reason), &[]),
    };
    channel.send(&FromVm::Running, &[])?;
    let end = match &mut work {
        Work::Guest(running) => run(channel.as_fd(), running),
        Work::Api(server) => end_of(server.serve(channel.as_fd())),
        Work::Described(server) => {
            let end = end_of(server.serve(channel.as_fd()));
            // Nobody else knows what sockets clients had it make.
            for socket in server.config().map(paths::sockets).unwrap_or_default() {
                let _ = std::fs::remove_file(socket);
            }
            end
        }
    };
    // The machine is left to the kernel to take apart: that is faster, and destructors may want what the jail forbids.
    std::mem::forget(work);
    channel.send(&end, &[])
}

/// Does what the parent says until the guest has ended; without a parent, there is to be no guest either.
fn run(parent: BorrowedFd<'_>, running: &mut RunningVm) -> FromVm {
    let mut stopping = false;
    loop {
        match running.try_wait() {
            Ok(None) => {}
            Ok(Some(exit)) => return FromVm::Ended(exit),
            Err(error) => return end_by(error),
        }
        let mut fds = [
            PollFd::from_borrowed_fd(running.exit_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(parent, PollFlags::IN),
        ];
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

fn end_of(served: Result<Served, ServeError>) -> FromVm {
    match served {
        Ok(Served::Guest(exit)) => FromVm::Ended(exit),
        Ok(Served::Nothing) => FromVm::Ended(VmExit::Stopped),
        Err(ServeError::Guest(error)) => end_by(error),
        Err(error) => FromVm::Broke(error.to_string()),
    }
}

fn end_by(error: CpuError) -> FromVm {
    match error {
        CpuError::Died(death) => FromVm::Died(death),
        error => FromVm::Broke(error.to_string()),
    }
}
