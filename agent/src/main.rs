//! The agent: PID 1 inside the guest, from an initramfs that holds nothing else.
//!
//! ```text
//! connect → say Ready → early mounts → wait for Start → stack the root → switch to it
//!         → clock, host name, files, network → run the app → relay until it ends → power off
//! ```
//!
//! One thread, one poll loop, few pages: where the guest's kernel is emulated a system call costs about 0.4 ms and a
//! page fault 2 to 10 ms, so every step says what it needs and no more. Whatever fails after the connection stands
//! is told to the engine as [`FromAgent::Failed`]; before that, to the kernel log. The machine is powered off on
//! every path, but for one: a connection that is reset before `Start` is that of a machine which goes on from a snapshot, so
//! the agent gives it random numbers of its own (`reseed`) and connects again. With the word `self_test=1` on the kernel's command line there is no engine: the agent examines the
//! machine (`examine`).
#![cfg_attr(not(test), no_main)]

mod app;
mod channel;
mod examine;
mod files;
mod log;
mod mounts;
mod netlink;
mod network;
mod power;
mod relay;
mod reseed;
mod root;
#[cfg(test)]
mod skip;
mod stats;
mod sys;

use std::os::fd::OwnedFd;

use agent::kernel::{MARK_VARIABLE, READY_MARK};
use agent::protocol::{Failure, FromAgent, Start, ToAgent};
use agent::self_test;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::channel::{Channel, ChannelError};
use crate::mounts::Dev;

/// Why the agent stops before or instead of an app's ordinary end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("lost the engine: {0}")]
    Lost(#[from] ChannelError),
    #[error("asked to shut down before an app was started")]
    Shutdown,
    #[error("{}", .0.message)]
    Failed(Failure),
}

/// The mount of the writable disk, once it is there, to be made clean at the end.
type Disk = Option<OwnedFd>;

#[cfg(test)]
fn main() {
    run();
}

/// The agent's whole life; returns only where powering off is not permitted.
fn run() {
    // On a host it would kill every process and reboot.
    if !rustix::process::getpid().is_init() {
        log::say("runs only as the first process of a guest");
        return;
    }
    if std::env::var_os(self_test::VARIABLE).is_some() {
        examine::run();
        power::off(None);
        return;
    }
    let mut disk = None;
    match channel::open() {
        Ok((mut channel, dev)) => {
            if let Err(stop) = serve(&mut channel, &dev, &mut disk) {
                part(&mut channel, stop);
            }
        }
        Err(error) => {
            // The kernel log is below /dev; where that cannot be had, the console may be.
            let _ = mounts::early(&Dev::Kernel);
            log::say(&format!("cannot reach the engine: {error}"));
        }
    }
    power::off(disk);
}

/// Tells the engine why there is no app, or the kernel log where there is no engine.
fn part(channel: &mut Channel, stop: Stop) {
    let told = match stop {
        Stop::Failed(failure) => {
            channel.queue(&FromAgent::Failed(failure)).and_then(|()| channel.flush_all())
        }
        other => {
            log::say(&other.to_string());
            return;
        }
    };
    if let Err(error) = told {
        log::say(&format!("cannot tell the engine of a failure: {error}"));
    }
}

fn serve(channel: &mut Channel, dev: &Dev, disk: &mut Disk) -> Result<(), Stop> {
    channel.queue(&FromAgent::Ready)?;
    channel.flush_all()?;
    if std::env::var_os(MARK_VARIABLE).is_some() {
        sys::mark::write(READY_MARK).map_err(|e| failed(&format!("cannot mark the boot timer: {e}")))?;
    }
    let signals =
        sys::signals::child_exits().map_err(|e| failed(&format!("cannot watch for children: {e}")))?;
    mounts::early(dev).map_err(|e| failed(&e))?;
    let start = wait_for_start(channel)?;
    let app = set_up(&start, disk)?;
    channel.queue(&FromAgent::Started(app.pid.unsigned_abs()))?;
    relay::run(channel, &signals, app)?;
    Ok(())
}

/// Waits for the one message that may come first.
fn wait_for_start(channel: &mut Channel) -> Result<Box<Start>, Stop> {
    loop {
        let message = match channel.wait_next() {
            Err(ChannelError::Socket(error)) if reseed::is_sign_of_a_copy(error) => {
                go_on_as_a_copy(channel)?;
                continue;
            }
            message => message?,
        };
        match message {
            ToAgent::Start(start) => return Ok(start),
            ToAgent::Shutdown => return Err(Stop::Shutdown),
            ToAgent::Stats => {
                channel.queue(&FromAgent::Stats(stats::read())).and_then(|()| channel.flush_all())?
            }
            // There is nobody yet to take them.
            ToAgent::Stdin(_) | ToAgent::CloseStdin | ToAgent::Signal(_) => {
                log::say("input or a signal before the app was started; ignored");
            }
        }
    }
}

/// The machine has been restored from a snapshot, and there may be others like it.
fn go_on_as_a_copy(channel: &mut Channel) -> Result<(), Stop> {
    reseed::reseed().map_err(|e| failed(&format!("cannot reseed the random generator: {e}")))?;
    channel.connect_again()?;
    channel.queue(&FromAgent::Ready)?;
    Ok(channel.flush_all()?)
}

/// Everything between `Start` and the app's first instruction.
fn set_up(start: &Start, disk: &mut Disk) -> Result<app::App, Stop> {
    root::stack(&start.root, disk).map_err(|e| failed(&e))?;
    root::switch().map_err(|e| failed(&e))?;
    set_clock(start.time_ns);
    rustix::system::sethostname(start.hostname.as_bytes())
        .map_err(|e| failed(&format!("cannot set the host name {:?}: {e}", start.hostname)))?;
    files::write_etc(start).map_err(|e| failed(&e))?;
    network::set_up(start.network.as_ref()).map_err(|e| failed(&e))?;
    app::start(&start.process)
        .map_err(|e| Stop::Failed(Failure { exit_code: e.exit_code(), message: e.to_string() }))
}

/// A wrong clock is worth a line in the log, not the app's life.
fn set_clock(time_ns: u64) {
    const NANOS: u64 = 1_000_000_000;
    if time_ns == 0 {
        return;
    }
    let seconds = (time_ns / NANOS).cast_signed();
    let time = Timespec { tv_sec: seconds, tv_nsec: (time_ns % NANOS).cast_signed() };
    if let Err(error) = clock_settime(ClockId::Realtime, time) {
        log::say(&format!("cannot set the clock: {error}"));
    }
}

/// A failure of the machine rather than of the app's program: exit code 125, as Docker's.
fn failed(reason: &impl ToString) -> Stop {
    Stop::Failed(Failure { exit_code: 125, message: reason.to_string() })
}
