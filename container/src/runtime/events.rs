//! `events`: what a container uses, and when it runs out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::error::RuntimeError;
use super::pause::in_status;
use super::state::Status;
use super::store::Entry;
use crate::cgroup::Usage;

/// Something to tell of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What it has used so far.
    Stats(Box<Usage>),
    /// A process of it was killed for want of memory.
    OutOfMemory,
}

const ALIVE: [Status; 3] = [Status::Running, Status::Created, Status::Paused];

/// What it has used so far.
pub(super) fn usage(entry: &Entry) -> Result<Usage, RuntimeError> {
    Ok(entry.cgroup(&in_status(entry, "tell the figures of", &ALIVE)?)?.usage())
}

/// Tells figures at once and after each `interval`, and each lack of memory, until the container ends or `tell` answers
/// that nobody listens any more.
pub(super) fn watch(
    entry: &Entry,
    interval: Duration,
    mut tell: impl FnMut(Event) -> bool,
) -> Result<(), RuntimeError> {
    let record = in_status(entry, "watch", &ALIVE)?;
    let cgroup = entry.cgroup(&record)?;
    let Some(pidfd) = record.init.map(|init| init.open()).transpose()?.flatten() else { return Ok(()) };
    let mut oom = cgroup.watch_oom()?;
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            next = Instant::now() + interval;
            if !tell(Event::Stats(Box::new(cgroup.usage()))) {
                return Ok(());
            }
        }
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        fds.extend(oom.as_ref().map(|oom| PollFd::from_borrowed_fd(oom.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timespec(next.saturating_duration_since(Instant::now())))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RuntimeError::file("its first process", errno)),
        }
        let ended = !fds[0].revents().is_empty();
        // Looked at when it ends as well: that may be why.
        if oom.as_mut().is_some_and(|oom| oom.happened()) && !tell(Event::OutOfMemory) {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
    }
}

/// The same, as the kernel has it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
